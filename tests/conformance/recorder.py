"""Runs the suite's tests and records what became of each, one JSON line a test, as it happens.

A process of its own, whose working directory is the suite's checkout: what hangs or dies in the suite cannot take the record with it. Tests
that are not ours are told with their reason and not run, but for those whose reason their failure must show. A test has a bounded
time, each of its phases for itself, so that one hang does not stop the run.
"""

import json
import os
import re
import signal
import sys

import pytest

import not_ours


class Overdue(Exception):
    """Said by the clock, not by the test."""


def name_of(item):
    return item.nodeid.removeprefix("s3tests/functional/")


class Recorder:
    def __init__(self, out, seconds, prefix):
        self.out, self.seconds, self.prefix = out, seconds, re.compile(re.escape(prefix) + r"[a-z0-9]*")
        self.rules = not_ours.load()
        self.failed = {}
        self.to_show = {}  # test → the rule that its failure must bear out

    def record(self, **line):
        print(json.dumps(line), file=self.out, flush=True)

    def tell(self, item, result, reason=""):
        self.record(test=name_of(item), result=result, reason=reason)

    @pytest.hookimpl(trylast=True)  # after -k and -m
    def pytest_collection_modifyitems(self, config, items):
        self.record(order=[name_of(item) for item in items])
        left = []
        for item in items:
            rule = self.rules.rule(item.name, {m.name for m in item.iter_markers()})
            if rule and "shown_by" not in rule:
                self.tell(item, "not ours", rule["reason"])
                continue
            if rule:
                self.to_show[item.nodeid] = rule
            left.append(item)
        self.record(unused=self.rules.unused())
        config.hook.pytest_deselected(items=[i for i in items if i not in left])
        items[:] = left

    def bounded(self, item):
        def overdue(*_):
            raise Overdue(f"not done after {self.seconds} s")

        before = signal.signal(signal.SIGALRM, overdue)
        signal.alarm(self.seconds)
        try:
            return (yield)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item):
        return (yield from self.bounded(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        return (yield from self.bounded(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item):
        return (yield from self.bounded(item))

    def sentence(self, call):
        """What failed, in one line that is the same in the next run."""
        text = call.excinfo.exconly().strip().splitlines()[0]
        return self.prefix.sub("<bucket>", text)[:200]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if call.excinfo is not None:
            word = "skipped by itself: " if report.skipped else "" if call.when == "call" else f"in {call.when}: "
            self.failed.setdefault(item.nodeid, word + self.sentence(call))
        if call.when == "teardown":
            # A test that skips itself has shown nothing.
            reason = self.failed.pop(item.nodeid, None)
            rule = self.to_show.get(item.nodeid)
            if reason and rule and not_ours.is_shown(rule, reason):
                self.tell(item, "not ours", rule["reason"])
            else:
                self.tell(item, "fail" if reason else "pass", reason or "")
        return report


def main():
    seconds, prefix, *arguments = sys.argv[1:]
    # Stdout is the record's alone: what tests print goes where errors go.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        code = pytest.main(
            ["-q", "--tb=short", "-p", "no:cacheprovider", *arguments], plugins=[Recorder(out, int(seconds), prefix)]
        )
    sys.stdout.flush()
    # A test that hung may have left threads that never end.
    os._exit(int(code))


if __name__ == "__main__":
    main()
