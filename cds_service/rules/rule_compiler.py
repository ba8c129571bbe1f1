"""A rule's file → a Rule: its criteria built, its sentences compiled, every name in it looked up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cds_service.errors import Mistake
from cds_service.rules.criteria import Criterion
from cds_service.rules.criteria_builder import CriteriaBuilder
from cds_service.rules.rule import Assertion, Hazard, Recommend, Rule, Tell, Urgency, Workup
from cds_service.rules.sentences import Sentence, SentenceError, compile_sentence, names_in, needs_of, parse_sentence
from cds_service.rules.yaml_source import Source


class RuleCompiler:
    """Compiles rules of one pack; what is wrong is added to ``mistakes``."""

    def __init__(
        self, builder: CriteriaBuilder, workups: Mapping[str, Workup], assertions: Mapping[str, Assertion],
        conflicts: Mapping[str, Any], mistakes: list[Mistake],
    ) -> None:  # fmt: skip
        self._conflicts = conflicts
        self._builder = builder
        self._workups = workups
        self._assertions = assertions
        self._mistakes = mistakes

    def compile(self, slug: str, source: Source) -> Rule | None:
        """The rule of this file of the document ``slug``; None when a mistake was found in it."""
        before = len(self._mistakes)
        data = source.data
        names = dict(self._builder.shared)
        local: set[str] = set(data.get("criteria", {}))
        for name, definition in data.get("criteria", {}).items():
            if name in names:
                self._say(source, ("criteria", name), f"{name!r} is already a shared criterion: use another name")
            built = self._builder.build(definition, source, ("criteria", name), names)
            if built is not None:
                names[name] = built
        when = self._sentence(source, ("recommend_when",), names)
        unless = self._sentence(source, ("unless",), names) if "unless" in data else None
        recommend = self._recommend(source, names)
        tells = [
            self._builder.build(item["ask"], source, ("tell_if_not_recorded", place, "ask"), names)
            for place, item in enumerate(data.get("tell_if_not_recorded", []))
        ]
        for place, drawn in enumerate(data["draws_on"]):
            if drawn not in self._assertions:
                self._say(source, ("draws_on", place), f"no document has an assertion {drawn!r}")
        for place, name in enumerate(data.get("conflicts", [])):
            if name not in self._conflicts:
                self._say(source, ("conflicts", place), f"conflicts.yaml has no {name!r}")
        if data["population"] not in self._builder.shared:
            self._say(source, ("population",), f"no shared criterion is called {data['population']!r}")
        named = [data["population"]]
        for sentence in (when, unless):
            named += names_in(sentence) if sentence is not None else ()
        used = set(named)
        for sentence in (item.when for item in recommend):
            used |= set(names_in(sentence)) if sentence is not None else set()
        for name in sorted(local - used):
            self._say(source, ("criteria", name), f"{name!r} is used in no sentence: use it or delete it")
        if when is None or len(self._mistakes) > before:
            return None
        meaning = names.__getitem__
        return Rule(
            id=data["id"], version=data["version"], status=data["status"], title=data["title"], document=slug,
            draws_on=tuple(data["draws_on"]), basis=data["basis"], citation=data.get("citation", ""),
            population=data["population"], criteria={name: names[name] for name in sorted(used)},
            named=tuple(dict.fromkeys(named)), needs=needs_of(when, lambda name: names[name].needs),
            recommend_when=when, unless=unless,
            applies=compile_sentence(when, meaning),
            excluded=compile_sentence(unless, meaning) if unless is not None else None,
            recommend=tuple(
                item if item.when is None else item._replace(is_meant=compile_sentence(item.when, meaning))
                for item in recommend
            ),
            because=data["because"],
            tell=tuple(
                Tell(built.ask, item["say"])
                for built, item in zip(tells, data.get("tell_if_not_recorded", []), strict=True)
                if built is not None and built.ask is not None
            ),
            limitations=tuple(data["limitations"]), conflicts=tuple(data.get("conflicts", ())),
            if_it_speaks_wrongly=Hazard(**data["hazards"]["if_it_speaks_wrongly"]),
            if_it_stays_silent=Hazard(**data["hazards"]["if_it_stays_silent"]), file=source.file,
            sha256=hashlib.sha256(_canonical(data)).hexdigest(),
        )  # fmt: skip

    def _sentence(self, source: Source, path: tuple[str | int, ...], names: Mapping[str, Criterion]) -> Sentence | None:
        text: Any = source.data
        for key in path:
            text = text[key]
        try:
            sentence = parse_sentence(text)
        except SentenceError as problem:
            self._say(source, path, str(problem))
            return None
        for name in names_in(sentence):
            if name not in names:
                self._say(source, path, f"no criterion is called {name!r}")
        return sentence

    def _recommend(self, source: Source, names: Mapping[str, Criterion]) -> tuple[Recommend, ...]:
        found = []
        for place, item in enumerate(source.data["recommend"]):
            urgency = Urgency[item["urgency"].upper()]
            workup = self._workups.get(item["workup"])
            if workup is None:
                self._say(source, ("recommend", place), f"no workup is called {item['workup']!r}")
            elif urgency not in workup.suggest:
                self._say(source, ("recommend", place), f"the workup has no wording for {item['urgency']}")
            cites = item.get("cites", source.data["draws_on"][0])
            if cites not in source.data["draws_on"]:
                self._say(
                    source, ("recommend", place, "cites"), f"{cites!r} is not in draws_on: add it or cite another"
                )
            when = self._sentence(source, ("recommend", place, "when"), names) if "when" in item else None
            found.append(Recommend(item["workup"], urgency, cites, when))
        return tuple(found)

    def _say(self, source: Source, path: tuple[str | int, ...], message: str) -> None:
        self._mistakes.append(source.mistake(path, message))


def _canonical(data: Mapping[str, Any]) -> bytes:
    """The content of a rule in one byte order, without its version: what the lock file hashes."""
    return json.dumps({k: v for k, v in data.items() if k != "version"}, sort_keys=True).encode()
