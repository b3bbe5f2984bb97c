"""Which of the suite's tests are not about what Cairn is asked to do, and why: not_ours.toml, read.

A rule that fits no test is told, so that the file cannot rot into hiding something.
"""

import fnmatch
import os
import re
import tomllib

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "not_ours.toml")


class Rules:
    def __init__(self, data):
        self.rules = data["marked"] + data["named"]
        for rule in self.rules:
            unknown = rule.keys() - {"markers", "tests", "reason", "shown_by"}
            assert not unknown and ("markers" in rule) != ("tests" in rule), f"{rule}: {unknown}"
        self.used = set()

    def rule(self, name, markers):
        """The rule that says why a test is not ours; None when it is."""
        name = name.replace("[", "(").replace("]", ")")  # brackets mean something in a pattern
        found = None
        for rule in self.rules:
            fits = [m for m in rule.get("markers", ()) if m in markers]
            fits += [p for p in rule.get("tests", ()) if fnmatch.fnmatchcase(name, p)]
            self.used.update(fits)
            if fits and found is None:
                found = rule
        return found

    def unused(self):
        every = {w for rule in self.rules for w in (*rule.get("markers", ()), *rule.get("tests", ()))}
        return sorted(every - self.used)


def is_shown(rule, sentence):
    """Whether a failure is what the rule says it must be."""
    return any(re.search(expression, sentence) for expression in rule["shown_by"])


def load():
    with open(FILE, "rb") as f:
        return Rules(tomllib.load(f))
