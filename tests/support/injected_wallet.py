"""A browser wallet (EIP-1193, EIP-6963) that really signs, with a node of its own; its user confirms everything it is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from playwright.sync_api import BrowserContext
from web3 import Web3

from backend.api.rpc import NodeDoor

_ANNOUNCE = """
(() => {
  const listeners = [];
  const provider = {
    async request({ method, params }) {
      const answer = JSON.parse(await window.__wallet(method, JSON.stringify(params ?? [])));
      if (answer.error) {
        const error = new Error(answer.error.message);
        error.code = answer.error.code;
        throw error;
      }
      return answer.result;
    },
    on: (name, listener) => listeners.push([name, listener]),
    removeListener: () => {},
  };
  const info = Object.freeze({
    uuid: "350670db-19fa-4704-a166-e52e178b59d2",
    name: "Test wallet",
    icon: "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>",
    rdns: "org.example.wallet",
  });
  const announce = () =>
    window.dispatchEvent(
      new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }),
    );
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
})();
"""


@dataclass
class InjectedWallet:
    """The wallet of one account.

    Args:
        key: its key.
        web3: its node.
        contracts: whose calls the node answers.
        chain_id: the chain it is on.
        declines: methods that its user says no to.
    """

    key: LocalAccount
    web3: Web3
    contracts: dict[str, Any]
    chain_id: int
    declines: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def install(self, context: BrowserContext) -> None:
        """Puts it into a browser."""
        context.expose_function("__wallet", self._answer)
        context.add_init_script(_ANNOUNCE)

    def _answer(self, method: str, params: str) -> str:
        self.asked.append(method)
        if method in self.declines:
            return json.dumps({"error": {"code": 4001, "message": "User rejected the request."}})
        try:
            return json.dumps({"result": self._result(method, json.loads(params))})
        except LookupError:
            reply = NodeDoor(self.web3, self.contracts).reply(
                {"jsonrpc": "2.0", "id": 1, "method": method, "params": json.loads(params)}
            )
            return json.dumps(reply)

    def _result(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_requestAccounts" | "eth_accounts":
                # As some wallets do.
                return [self.key.address.lower()]
            case "eth_chainId":
                return hex(self.chain_id)
            case "wallet_switchEthereumChain":
                self.chain_id = int(params[0]["chainId"], 16)
                return None
            case "personal_sign":
                signable = encode_defunct(bytes(HexBytes(params[0])))
                return "0x" + bytes(self.key.sign_message(signable).signature).hex()
            case "eth_signTypedData_v4":
                signable = encode_typed_data(full_message=json.loads(params[1]))
                return "0x" + bytes(self.key.sign_message(signable).signature).hex()
            case "eth_sendTransaction":
                return self._send(params[0])
        raise LookupError(method)

    def _send(self, call: dict[str, str]) -> str:
        assert call["from"].lower() == self.key.address.lower()
        transaction: Any = {
            "to": Web3.to_checksum_address(call["to"]),
            "data": call["data"],
            "value": int(call.get("value", "0x0"), 16),
            "gas": 3_000_000,
            "nonce": self.web3.eth.get_transaction_count(self.key.address),
            "maxFeePerGas": 3 * 10**9,
            "maxPriorityFeePerGas": 10**9,
            "chainId": self.chain_id,
        }
        signed = self.key.sign_transaction(transaction)
        return "0x" + bytes(self.web3.eth.send_raw_transaction(signed.raw_transaction)).hex()
