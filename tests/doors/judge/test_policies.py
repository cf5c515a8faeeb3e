"""``tally policy``: what is in force, whether a file is sound, what it would change."""

from __future__ import annotations

from tallystick.core.names import digest_of

RULE = '[[rule]]\nname = "a"\nmeasure = "clean_accuracy"\nat_least = 0.9\n'
LET = '[[exception]]\nrule = "a"\nmodel = "m"\nowner = "ann"\nreason = "r"\nuntil = 2020-01-01\n'


def test_the_policy_in_force_is_shown_as_it_was_written(desk):
    found = {"digest": digest_of("p"), "text": f"# why\n{RULE}", "policy": {"name": "p"}}
    desk.answers["GET /api/tally/policy"] = found
    assert desk.type("policy", "show").out == f"# why\n{RULE}"
    assert desk.type("policy", "show", "--json").json == found


def test_a_file_is_checked_without_a_hub(desk, tmp_path):
    (tmp_path / "p.toml").write_text(RULE + RULE.replace('"a"', '"b"\nseverity = "warn"') + LET)
    said = desk.type("policy", "check", "p.toml")
    assert (said.status, desk.asked) == (0, [])
    for words in ("p.toml is a policy: policy", "rules       2, of which 1 refuse and 1 warn",
                  "exceptions  1, of which 1 have ended", "ended       m from 'a', on 2020-01-01: ann",
                  "gate        deployment, alias champion, stage Production"):  # fmt: skip
        assert words in said.out
    found = desk.type("policy", "check", "p.toml", "--json").json
    assert found["digest"].startswith("sha256:")
    assert found["policy"]["rules"][0]["name"] == "a"


def test_what_is_wrong_in_a_file_is_said_with_the_file(desk, tmp_path):
    for text, words in (
        (
            RULE.replace("at_least", "at_lest"),
            "p.toml: policy rule 1: unknown key 'at_lest'\n  did you mean at_least?",
        ),
        ("=", "p.toml: is not TOML"),
        (
            LET.replace("2020", "9999") + RULE,
            "p.toml: exception from rule 'a': until 9999-01-01 is over a year",
        ),
    ):
        (tmp_path / "p.toml").write_text(text)
        for command in ("check", "test"):
            said = desk.type("policy", command, "p.toml")
            assert (said.status, words in said.err) == (2, True), said.err
    (tmp_path / "p.toml").write_bytes(b"\xff")
    assert "p.toml: is not TOML" in desk.type("policy", "check", "p.toml").err
    assert "none.toml: no such file" in desk.type("policy", "check", "none.toml").err
    (tmp_path / "p.toml").write_text("#" * 1_000_001)
    assert "at most 1,000,000 bytes" in desk.type("policy", "check", "p.toml").err


def tried(**more):
    return {
        "verdict": "verdict-1", "model": "m@1", "policy": "p", "before": "passed", "after": "passed",
        "changes": False, "rules": [], "dropped": [], "findings": [], **more,
    }  # fmt: skip


def test_a_policy_is_tried_on_past_evidence(desk, tmp_path):
    (tmp_path / "p.toml").write_text(RULE)
    changed = tried(
        verdict="verdict-2", after="refused", changes=True, rules=["a: too little"], dropped=["old"]
    )
    answer = {"name": "strict", "verdicts": [changed, tried()], "changed": 1, "without_evidence": 3}
    desk.answers["POST /api/tally/policy/test"] = answer
    said = desk.type("policy", "test", "p.toml")
    assert said.status == 1
    assert "1 of 2 verdicts would change under strict; 3 more have no evidence" in said.err
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[1] == "m@1 verdict-2 passed refused a: too little; no rule 'old' any more"
    assert lines[2] == "m@1 verdict-1 passed the same -"
    assert desk.bodies("POST /api/tally/policy/test") == [{"text": RULE}]
    assert desk.type("policy", "test", "p.toml", "--json").json == answer
    desk.answers["POST /api/tally/policy/test"] = {**answer, "verdicts": [tried()], "changed": 0}
    assert desk.type("policy", "test", "p.toml").status == 0


def test_the_policies_that_were_in_force_are_listed(desk):
    state = {"name": "p", "digest": digest_of("p"), "text": digest_of("t"), "rules": 3, "exceptions": 1}
    desk.answers["GET /api/tally/log"] = [{"at_ms": 1, "key": digest_of("p"), "state": state}]
    lines = [" ".join(line.split()) for line in desk.type("policy", "versions").out.splitlines()]
    assert lines[1] == f"1970-01-01 p {digest_of('p')[7:19]} 3 1 {digest_of('t')[7:19]}"
    assert desk.type("policy", "versions", "--json").json == [state]
