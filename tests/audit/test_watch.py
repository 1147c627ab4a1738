"""The watchtower against a coordinator that really lies: three processes, a node, a liar, and `peerwatt audit watch`.

Nobody tells the watchtower anything; it has the node, the published bundles and a key.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3

from tests.support.anvil import ask, running_anvil

from .honest import CHALLENGE_SECONDS, key_of

pytestmark = pytest.mark.xdist_group("watchtower")
ROOT = Path(__file__).parents[2]
PEERWATT = str(Path(sys.executable).parent / "peerwatt")
# What each lie falls by.
EXPECTED = {
    "amount": "challengeAmount",
    "system amount": "challengeSystemAmount",
    "missing": "challengeMissing",
    "tree sum": "challengeTreeSum",
    "leaf sum": "challengeLeafSum",
    "outside": "challengeOutside",
    "cumulative": "challengeCumulative",
    "inactive": "challengeInactive",
    "withheld": "voidUnanswered",
    "uncovered": "voidUncovered",
    "corrected amount": "challengeCorrectedAmount",
    "forged trade": "strike",
}
HONEST_BATCHES = 4
# Killed when it has sent a challenge, and between a demand and what follows from it.
KILLED_AFTER, KILLED_BETWEEN = "tree sum", "withheld"


class Lines:
    """A process and the JSON lines it writes."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.lines: Queue[dict[str, Any]] = Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def next(self, seconds: float = 240) -> dict[str, Any]:
        return self.lines.get(timeout=seconds)

    def all_now(self) -> Iterator[dict[str, Any]]:
        while True:
            try:
                yield self.lines.get_nowait()
            except Empty:
                return

    def kill(self) -> None:
        """As a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_every_lie_of_the_dispute_table_falls_while_nobody_is_there(tmp_path: Path) -> None:
    keystore, password = tmp_path / "key.json", tmp_path / "password"
    secret = Account.encrypt(key_of("outsider").key, "let me in", kdf="pbkdf2", iterations=2)
    keystore.write_text(json.dumps(secret))
    password.write_text("let me in\n")
    bundles = tmp_path / "bundles"
    with running_anvil("--auto-impersonate") as url:
        web3 = Web3(HTTPProvider(url))
        liar = Lines(sys.executable, "-m", "tests.audit.lying_coordinator", url, str(bundles))
        community = liar.next()["community"]

        def watchtower() -> Lines:
            return Lines(
                PEERWATT, "audit", "watch", "--rpc", url, "--community", community,
                "--bundle", str(bundles), "--keystore", str(keystore), "--password-file", str(password),
                "--state", str(tmp_path / "state"), "--grace-seconds", "0", "--finality-depth", "0",
                "--demand-all", "--poll-seconds", "0.1", "--json",
            )  # fmt: skip

        tower = watchtower()
        fallen: dict[str, str] = {}
        events: list[dict[str, Any]] = []
        try:
            lie = liar.next()
            while "done" not in lie:
                if "honest" in lie:
                    lie = liar.next()
                    continue
                demanded = False
                while True:
                    event = tower.next()
                    events.append(event)
                    name = event["function"]
                    if event["kind"] != "sent" or event["number"] != lie["number"]:
                        continue
                    if name in ("demandData", "demandCover"):
                        if not demanded:
                            demanded = True
                            if lie["lie"] == KILLED_BETWEEN:
                                tower.kill()
                                tower = watchtower()
                            ask(web3, "evm_increaseTime", CHALLENGE_SECONDS // 3 + 1)
                            ask(web3, "evm_mine")
                        continue
                    fallen[lie["lie"]] = name
                    break
                if lie["lie"] == KILLED_AFTER:
                    tower.kill()
                    tower = watchtower()
                lie = liar.next()
        finally:
            liar.kill()
            tower.kill()
        assert fallen == EXPECTED
        assert lie == {"done": HONEST_BATCHES}

        # What is left is the truth, and whoever looks now finds nothing; nothing was sent twice.
        events += list(tower.all_now())
        assert not [event for event in events if event["kind"] == "refused"]
        command = [
            PEERWATT, "audit", "watch", "--rpc", url, "--community", community,
            "--bundle", str(bundles), "--state", str(tmp_path / "other"), "--once", "--json",
        ]  # fmt: skip
        last = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        found = [json.loads(line) for line in last.stdout.splitlines()]
        assert last.returncode == 0, found
        assert [event["kind"] for event in found] == ["verdict"] * HONEST_BATCHES
        assert all(event["text"].startswith("verified") for event in found)
        sender = key_of("outsider").address
        rewards = _voided(web3, community)
        assert [entry["challenger"] for entry in rewards] == [sender] * (len(EXPECTED) - 1)


def _voided(web3: Web3, community: str) -> list[dict[str, Any]]:
    from contracts.artifact import artifact

    house = web3.eth.contract(
        address=Web3.to_checksum_address(community), abi=artifact("ClearingHouse")["abi"]
    )
    return [dict(entry["args"]) for entry in house.events.BatchVoided().get_logs(from_block=0)]
