import re
import subprocess
import sys

from tests.cluster.waiting import state_of


def test_the_demo_keeps_what_it_claims_without_a_terminal() -> None:
    command = [sys.executable, "-m", "gimmal", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    ticks = re.findall(r"^ ✓ ", done.stdout, re.MULTILINE)
    assert f"All {len(ticks)} checks passed" in done.stdout
    assert re.search(r"the longest time without an increment: [\d,]+ ms", done.stdout)
    pids = [int(pid) for pid in re.findall(r"\(process (\d+)\)", done.stdout)]
    assert len(pids) == 3
    assert not any(map(state_of, pids))
