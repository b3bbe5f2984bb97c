"""docs/conformance.md, from the results of a run. The same results give the same page."""

HEAD = """# Conformance

What the public suite [ceph/s3-tests](https://github.com/ceph/s3-tests) says of Cairn. This page is written by

```
git clone https://github.com/ceph/s3-tests ../s3-tests
cargo xtask conformance --suite ../s3-tests
```

It runs the suite's data path (`test_s3.py`, `test_headers.py`) against the real binary, with its main, alt and tenant users as
accounts of their own. The suite's other modules are about IAM, STS, SNS and S3 Select alone.

*Ours* are the tests of the operations that Cairn has or is to have by now, less those that the suite marks as failing on Amazon's S3 and
those about Ceph alone. [tests/conformance/not_ours.toml](../tests/conformance/not_ours.toml) says which are not, with a
reason each. A reason like "public ACL" is not taken on trust: such a test is run, and is not ours only if the refusal of just that
is what fails it. *Void* are tests that send a valid request and expect its refusal, because the suite's client repairs what they broke.
"""
VOID = "void: "


class Totals:
    def __init__(self, results):
        self.passed, self.failed, self.not_ours = (
            sum(r["result"] == word for r in results) for word in ("pass", "fail", "not ours")
        )
        self.void = sum(r["reason"].startswith(VOID) for r in results)

    @property
    def ours(self):
        return self.passed + self.failed

    def share(self):
        return self.passed / self.ours if self.ours else 0.0

    def sentence(self):
        return (
            f"{self.passed} of {self.ours} tests that are ours pass ({100 * self.share():.1f} %), {self.failed} fail; "
            f"{self.not_ours} are not ours (with {self.void} void ones as failures: "
            f"{100 * self.passed / max(1, self.ours + self.void):.1f} %)"
        )


def cell(text):
    """Text that cannot break a table."""
    return "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]


def text(results, totals, commit):
    reasons = {}
    for r in results:
        if r["result"] == "not ours":
            reasons[r["reason"]] = reasons.get(r["reason"], 0) + 1
    lines = [HEAD]
    lines += [f"Suite: commit {commit}, {len(results)} tests.", "", f"**{totals.sentence()}.**", ""]
    lines += ["## What fails", ""]
    failures = [r for r in results if r["result"] == "fail"]
    if failures:
        lines += table(["test", "reason"], ([f"`{r['test']}`", cell(r["reason"])] for r in failures))
    else:
        lines += ["Nothing."]
    lines += ["", "## What is not ours", ""]
    lines += table(["tests", "reason"], ([str(n), cell(reason)] for reason, n in sorted(reasons.items(), key=lambda x: (-x[1], x[0]))))
    lines += ["", "## Every test", ""]
    lines += table(["test", "result", "reason"], ([f"`{r['test']}`", r["result"], cell(r["reason"])] for r in results))
    return "\n".join(lines) + "\n"
