"""Values of a configuration in the types that are wanted: by hand, and a wrong one for every leaf of conf/."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, Field

from discrete_ae.arguments import typed
from discrete_ae.cli.overrides import CONFIG_DIR, MAIN_CONFIG
from discrete_ae.errors import UsageError
from discrete_ae.training.settings import SETTINGS


class Part:
    """An argument of a component."""


def _hue(color: str) -> str:
    if not color.isdecimal():
        raise ValueError(f"expected a hue, got {color}; give degrees")
    return color


class Entry(BaseModel):
    """Fields with types of their own."""

    share: Annotated[float, Field(gt=0)] | None = None
    part: Annotated[float, Field(le=1)] = 1
    color: Annotated[str, AfterValidator(_hue)] = "0"
    name: str = ""


class Component:
    """Takes what components take."""

    def __init__(
        self,
        count: int,
        share: float = 0.5,
        is_on: bool = False,
        name: str | None = None,
        sizes: Sequence[int] = (),
        pair: tuple[float, float] = (0, 1),
        weights: Mapping[str, float] | None = None,
        kind: Literal["one", "other"] = "one",
        share_or_part: float | Part = 1.0,
        devices: list[int] | str | int = "auto",
        parts: Mapping[str, Part] | None = None,
        entries: dict[str, Entry | None] | None = None,
        unread: "NowhereDefined" = None,  # type: ignore[name-defined]  # noqa: F821
        **others: Any,
    ) -> None: ...


COMPONENT, PART = ({"_target_": f"{__name__}.{each.__name__}"} for each in (Component, Part))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("count", 2.0, 2),
        ("count", 1e1, 10),
        ("share", 1, 1.0),
        ("is_on", "no", False),
        ("is_on", "off", False),
        ("is_on", "False", False),
        ("is_on", "yes", True),
        ("name", 2024, "2024"),
        ("name", None, None),
        ("sizes", [8.0, 1e1], [8, 10]),
        ("weights", {"a": 1}, {"a": 1.0}),
        ("share_or_part", 2, 2.0),
        ("share_or_part", PART, PART),
        ("devices", 2.0, 2),
        ("devices", "2", "2"),
        ("parts", {"a": PART}, {"a": PART}),
        ("entries", {"a": {"share": 2, "name": 3}, "b": None}, {"a": {"share": 2.0, "name": "3"}, "b": None}),
        ("unread", [{}], [{}]),
        ("others", 1.5, 1.5),
    ],
)
def test_value_is_taken_in_the_type_that_is_wanted(name: str, given: object, expected: object) -> None:
    found = typed({"part": {**COMPONENT, name: given}})["part"][name]
    assert (found, repr(found)) == (expected, repr(expected))  # 2 == 2.0


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("count", 2.5, "count: expected a whole number, got 2.5"),
        ("count", True, "count: expected a whole number, got True"),
        ("count", "one", "count: expected a whole number, got 'one'"),
        ("count", None, "count: expected a whole number, got None"),
        ("count", {"a": 1}, "count: expected a whole number, got {'a': 1}"),
        ("share", "half", "share: expected a number, got 'half'"),
        ("share", float("nan"), "share: expected a finite number, got nan"),
        ("is_on", "maybe", "is_on: expected true or false, got 'maybe'"),
        ("name", [1], "name: expected a text, got [1]"),
        ("sizes", 8, "sizes: expected a list, got 8"),
        ("sizes", [8, "a"], "sizes: expected a whole number, got 'a'"),
        ("sizes", [8, True], "sizes: expected a whole number, got True"),
        ("weights", {"a": "b"}, "weights.a: expected a number, got 'b'"),
        ("weights", 3, "weights: expected names with values, got 3"),
        ("kind", "third", "kind: expected 'one' or 'other', got 'third'"),
        ("share_or_part", "x", "share_or_part: expected a number or a component with its _target_ (Part), got 'x'"),
        ("parts", {"a": 3}, "parts.a: expected a component with its _target_ (Part), got 3"),
        ("parts", {"a": {**COMPONENT, "count": 0.5}}, "parts.a.count: expected a whole number, got 0.5"),
        ("entries", {"a": {"share": 0}}, "entries.a.share: expected a number above 0, got 0"),
        ("entries", {"a": {"part": 1.5}}, "entries.a.part: expected a number of at most 1, got 1.5"),
        ("entries", {"a": {"color": "red"}}, "entries.a.color: expected a hue, got 'red'; give degrees"),
        (
            "entries",
            {"a": {"shade": 1}},
            "entries.a.shade: Entry has no such argument; its arguments are share, part, color, name",
        ),
        ("_target_", [3], "_target_: expected a text, got [3]"),
        ("_partial_", "maybe", "_partial_: expected true or false, got 'maybe'"),
    ],
)
def test_the_rest_is_refused_by_key_expectation_and_value(name: str, given: object, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        typed({"part": {**COMPONENT, name: given}})
    assert str(refused.value) == f"part.{told}"


def test_settings_go_before_the_types_of_components() -> None:
    assert typed({"part": {**COMPONENT, "count": "auto"}}, settings={"part.count": str})["part"]["count"] == "auto"
    with pytest.raises(UsageError, match=r"^seed: expected a whole number, got 1\.5$"):
        typed({"seed": 1.5}, settings={"seed": int})


FILES = [
    path.relative_to(CONFIG_DIR).with_suffix("")
    for path in sorted(CONFIG_DIR.rglob("*.yaml"))
    if path.relative_to(CONFIG_DIR).parts[0] != "hydra"  # those are Hydra's own
]


def leaves(node: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values in a YAML, with the places that they have in the whole configuration."""
    if isinstance(node, dict) and node:
        for name, inner in node.items():
            if name not in ("defaults", "hydra"):
                yield from leaves(inner, (*place, name))
    else:
        yield place, node


FREE = {"logger.wandb.group"}  # passed on to wandb, and of no type here
TAKEN = [("trainer.devices", "nonsense")]  # which may be a word


def wrong_for(value: Any) -> list[Any]:
    """Values that are wrong wherever this one is right."""
    if isinstance(value, bool):
        return [{"nonsense": 1}, [[]], "maybe", 2]
    if isinstance(value, int | float):
        return [{"nonsense": 1}, [[]], "nonsense", True]
    return [{"nonsense": 1}, [[]]]


@pytest.mark.parametrize("file", FILES, ids=Path.as_posix)
def test_every_leaf_with_a_wrong_type_is_refused_by_its_key(file: Path) -> None:
    text = (CONFIG_DIR / file).with_suffix(".yaml").read_text()
    group, option = file.parts[0], "/".join(file.parts[1:])
    chosen = [f"{group}={option}"] if option else []
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        fixed = ["run_dir=run", "choices.quantizer=ste", "choices.model=tiny"]
        config = OmegaConf.to_container(compose(MAIN_CONFIG, [*fixed, *chosen]), resolve=True)
    typed(config, settings=SETTINGS)
    found = list(leaves(yaml.safe_load(text), () if not option or "_global_" in text else (group,)))
    assert found
    for (*above, name), value in found:
        key = ".".join([*above, name])
        for wrong in wrong_for(value):
            if key in FREE or (key, wrong) in TAKEN:
                continue
            changed = copy.deepcopy({top: config[top] for top in [(*above, name)[0]]})
            node = changed
            for each in above:
                node = node[each]
            node[name] = wrong
            with pytest.raises(UsageError) as refused:
                typed(changed, settings=SETTINGS)
            assert str(refused.value).startswith(key)
            assert "\n" not in str(refused.value)
