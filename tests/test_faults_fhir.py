"""A few calls against each fault of a FHIR server, on the running service (`make faults` makes 10,000)."""

from __future__ import annotations

from faults_fhir import run

CALLS = 120  # two clients of each fault
TWO = 2.0 + 1.5  # a machine that runs the other tests beside needs longer than the half second that is promised


def test_faulty_servers_cost_their_own_calls_and_nobody_elses() -> None:
    result = run(CALLS, usual=150)
    assert max(result.slowest.values()) < TWO
    assert (result.calls, result.elsewhere, result.beside_failed) == (CALLS, 0, 0)
    assert set(result.answers) == {"200", "412"}
    assert result.beside > 0
    assert result.p99 < 1.5  # who waited for a faulty server would wait two seconds
    for fault, told in {
        "hang": "no answer in time", "drip": "no answer in time", "TLS stall": "no answer in time",
        "slow DNS": "no answer in time", "gzip bomb": "the answer is too large", "redirect": "it redirects",
        "wrong content": "the answer is not JSON", "next link elsewhere": "not every page could be read",
        "500": "it answered with an error status", "401": "it refuses the access token",
        "reset": "no connection, or it broke off", "half body": "no connection, or it broke off",
    }.items():  # fmt: skip
        assert set(result.causes[fault]) == {told}
