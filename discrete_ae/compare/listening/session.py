"""A session under way: what the page may know, sounds under names that say nothing, the ratings as they come."""

import io
import secrets
import threading
import wave
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discrete_ae.compare.listening.material import REFERENCE, Material
from discrete_ae.compare.listening.plan import Plan, Trial, plan
from discrete_ae.compare.listening.ratings import HIGHEST, Rating, add_ratings, one_line, read_ratings
from discrete_ae.compare.listening.summary import summarize
from discrete_ae.compare.listening.words import HEADINGS, cells, remarks
from discrete_ae.errors import UsageError


class Session:
    """One listener's way through the trials; safe to be used by several threads.

    Args:
        material: of the report.
        clips: names of those to be rated.
        methods: keys of those to be rated.
        path: of the file of ratings.
        seed: of the orders.
        name: of the session: a new one, or that of one that was broken off and goes on.
        listener: a name or an alias; may be empty, and is then asked for on the page.

    Raises:
        DataError: a sound cannot be read, or the ratings cannot be written.
        UsageError: the session began with other clips or methods.
    """

    def __init__(
        self,
        material: Material,
        clips: Sequence[str],
        methods: Sequence[str],
        path: Path,
        seed: int,
        name: str,
        listener: str = "",
    ) -> None:
        self.material, self.path, self.seed = material, path, seed
        self.name = name
        self.listener = one_line(listener)
        self.labels = material.conditions(methods)
        self.plan = plan(clips, list(self.labels), seed)
        own = [rating for rating in read_ratings(path) if rating.session == name]
        if not _continues(self.plan, own):
            raise UsageError(f"session {name} began with other clips or methods; choose the same to go on with it")
        self._done = {rating.trial for rating in own}
        self._lock = threading.Lock()
        self.longest_clip_s = 0.0
        # All in memory: what is heard does not change while somebody listens.
        self._sounds: dict[str, bytes] = {}
        self._tokens: dict[tuple[str, str], str] = {}  # of the open reference: under no condition
        for clip in clips:
            sounds = material.sounds(clip, self.labels)
            longest = sounds[REFERENCE].shape[1] / material.sample_rate
            self.longest_clip_s = max(self.longest_clip_s, longest)
            files = {condition: wav(samples, material.sample_rate) for condition, samples in sounds.items()}
            for condition, file in {"": files[REFERENCE], **files}.items():
                token = self._tokens[clip, condition] = secrets.token_urlsafe(12)
                self._sounds[token] = file
        add_ratings(path, [])  # fails where it would fail, before anybody listens

    @property
    def done(self) -> int:
        """Trials rated so far."""
        return len(self._done)

    @property
    def is_finished(self) -> bool:
        """Whether every trial is rated."""
        return self.done == len(self.plan.trials)

    def state(self) -> dict[str, Any]:
        """What the page may know: numbers and tokens of sounds, no name of a condition."""
        return {
            "listener": self.listener,
            "trials": [self._shown(trial) for trial in self.plan.trials],
            "practice": self._shown(self.plan.practice),
            "done": sorted(self._done),
        }

    def sound(self, token: str) -> bytes | None:
        """A WAV file by its token; None where there is none."""
        return self._sounds.get(token)

    def rate(self, number: int, grades: Sequence[int], comment: str = "", listener: str = "") -> None:
        """Keep the ratings of a trial; one that is kept already stays as it was.

        Args:
            number: of the trial, from 1 on.
            grades: 0 to 100, of its conditions in the order shown.
            comment: may be empty.
            listener: the name given on the page; counts where the session has none.

        Raises:
            UsageError: they are not of this trial, or no grades.
            DataError: the file cannot be written.
        """
        if type(number) is not int or not 1 <= number <= len(self.plan.trials):
            raise UsageError(f"expected a trial from 1 to {len(self.plan.trials)}, got {number!r:.40}")
        trial = self.plan.trials[number - 1]
        if len(grades) != len(trial.conditions) or any(
            type(grade) is not int or not 0 <= grade <= HIGHEST for grade in grades
        ):
            raise UsageError(f"expected {len(trial.conditions)} whole numbers from 0 to {HIGHEST}, got {grades!r:.80}")
        with self._lock:
            if number in self._done:
                return
            self.listener = self.listener or one_line(listener)
            time = datetime.now(UTC).isoformat(timespec="seconds")
            rows = [
                Rating(
                    session=self.name,
                    listener=self.listener,
                    time=time,
                    report=self.material.title,
                    material=self.material.digest,
                    seed=self.seed,
                    trials=len(self.plan.trials),
                    trial=number,
                    clip=trial.clip,
                    position=position,
                    condition=condition,
                    label=self.labels[condition],
                    rating=grade,
                    comment=one_line(comment),
                )
                for position, (condition, grade) in enumerate(zip(trial.conditions, grades, strict=True), 1)
            ]
            add_ratings(self.path, rows)
            self._done.add(number)

    def ratings(self) -> list[Rating]:
        """All ratings of these sounds in the file, of every listener."""
        return [rating for rating in read_ratings(self.path) if rating.material == self.material.digest]

    def result(self) -> dict[str, Any]:
        """This session unblinded, and the summary of all sessions.

        Raises:
            UsageError: not everything is rated yet.
        """
        if not self.is_finished:
            raise UsageError(f"{self.done} of {len(self.plan.trials)} clips are rated; the result comes after the last")
        ratings = self.ratings()
        own: dict[str, dict[str, int]] = {}
        for rating in ratings:
            if rating.session == self.name:
                own.setdefault(rating.clip, {})[rating.condition] = rating.rating
        summary = summarize(ratings)
        return {
            "file": self.path.name,
            "own": [
                ["", *own],
                *([label, *(own[clip].get(key, "") for clip in own)] for key, label in self.labels.items()),
            ],
            "all": [HEADINGS, *map(cells, summary.conditions)],
            "remarks": remarks(summary),
        }

    def _shown(self, trial: Trial) -> dict[str, Any]:
        return {
            "reference": self._tokens[trial.clip, ""],
            "conditions": [self._tokens[trial.clip, condition] for condition in trial.conditions],
        }


def unfinished(ratings: Sequence[Rating], material: Material, listener: str) -> Rating | None:
    """The last rating of the listener's last session on these sounds, if trials are missing in it."""
    own = [rating for rating in ratings if rating.material == material.digest and rating.listener == listener]
    if not own:
        return None
    rated = {rating.trial for rating in own if rating.session == own[-1].session}
    return own[-1] if len(rated) < own[-1].trials else None


def _continues(planned: Plan, ratings: Sequence[Rating]) -> bool:
    """Whether what a session has rated so far stands in the plan where it was rated."""
    places = {
        (number, position): (trial.clip, condition)
        for number, trial in enumerate(planned.trials, 1)
        for position, condition in enumerate(trial.conditions, 1)
    }
    return all(
        rating.trials == len(planned.trials)
        and places.get((rating.trial, rating.position)) == (rating.clip, rating.condition)
        for rating in ratings
    ) and len(ratings) == sum(len(planned.trials[number - 1].conditions) for number in {r.trial for r in ratings})


def wav(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """A WAV file of samples (C, N): for one shape and rate the files differ in the samples alone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((len(samples), 2, sample_rate, 0, "NONE", "not compressed"))
        writer.writeframes(samples.T.astype("<i2").tobytes())
    return file.getvalue()
