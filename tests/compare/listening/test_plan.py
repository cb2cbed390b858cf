"""The order: everything once, by chance, and the same for a seed."""

from collections import Counter

from discrete_ae.compare.listening.plan import plan

CLIPS = ["a", "b", "c"]
CONDITIONS = ["reference", "low_anchor", "ste", "vq"]


def test_every_clip_and_every_condition_once():
    found = plan(CLIPS, CONDITIONS, 5)
    assert sorted(trial.clip for trial in found.trials) == CLIPS
    for trial in [*found.trials, found.practice]:
        assert sorted(trial.conditions) == sorted(CONDITIONS)
    assert found.practice.clip == found.trials[-1].clip


def test_a_seed_gives_one_order_whatever_the_order_of_the_arguments():
    assert plan(CLIPS, CONDITIONS, 5) == plan(CLIPS[::-1], CONDITIONS[::-1], 5)
    assert len({plan(CLIPS, CONDITIONS, seed) for seed in range(50)}) == 50  # of 3! 4!^4 orders


def test_every_condition_comes_at_every_place_equally_often():
    seeds = 2000
    places = Counter(
        (trial, condition, place)
        for seed in range(seeds)
        for trial, (_, conditions) in enumerate(plan(CLIPS, CONDITIONS, seed).trials)
        for place, condition in enumerate(conditions)
    )
    # Binomial with 1/4: mean 500, standard deviation 19.4. Five of them leave 48 counts a chance of 3e-5 in all.
    assert len(places) == 3 * 4 * 4
    assert all(abs(count - seeds / 4) < 5 * 19.4 for count in places.values())
    clips = Counter(
        (place, trial.clip) for seed in range(seeds) for place, trial in enumerate(plan(CLIPS, "r", seed)[0])
    )
    assert all(abs(clips[place, clip] - seeds / 3) < 5 * 21.1 for place in range(3) for clip in CLIPS)
