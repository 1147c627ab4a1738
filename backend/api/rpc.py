"""The door to the chain's node for browsers without a node of their own: reading about the community, and sending what a wallet signed.

It keeps to a list of methods and to the community's own contracts, so that it is no open node for strangers. What it answers is the
site's word; who does not want to take it lets the wallet's node answer (docs/verify.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rlp
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from hexbytes import HexBytes
from starlette.concurrency import run_in_threadpool
from web3 import Web3
from web3.datastructures import NamedElementOnion
from web3.types import RPCEndpoint

from backend.chain.client import revert_data
from backend.domain.errors import NodeError, NodeUnreachable

from .sessions import AnySite
from .site import Site

_READ = frozenset(
    {
        "eth_blockNumber",
        "eth_chainId",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "net_version",
    }
)
_CALLS = frozenset({"eth_call", "eth_estimateGas"})
_CALL_FIELDS = frozenset({"from", "to", "data", "input", "value"})
_LOGS = "eth_getLogs"
_SEND = "eth_sendRawTransaction"
_BATCH_LIMIT = 20
_PARAMETER_LIMIT = 4
# JSON-RPC 2.0, section 5.1; the last one is what nodes answer for a revert.
_INVALID_REQUEST = -32600
_NO_SUCH_METHOD = -32601
_INVALID_PARAMETERS = -32602
_FAILED = -32000
_REVERTED = 3

router = APIRouter()


class Refused(Exception):
    """The door does not pass a request on.

    Args:
        code: of JSON-RPC.
        message: why.
        data: what a contract reverted with.
    """

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True)
class NodeDoor:
    """What is asked through it, and what is not.

    Args:
        web3: the node.
        contracts: the community's, by name.
        sent: told every transaction that the node took, as it was signed.
    """

    web3: Web3
    contracts: Mapping[str, str]
    sent: Callable[[bytes], None] = lambda raw: None
    _own: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = frozenset(address.lower() for address in self.contracts.values())
        object.__setattr__(self, "_own", own)

    def reply(self, body: Any) -> Any:
        """The answer to a request, or to a list of them."""
        if isinstance(body, list):
            if not 0 < len(body) <= _BATCH_LIMIT:
                return _error(None, Refused(_INVALID_REQUEST, f"give 1 to {_BATCH_LIMIT} requests"))
            return [self._reply_one(item) for item in body]
        return self._reply_one(body)

    def _reply_one(self, body: Any) -> dict[str, Any]:
        identifier = body.get("id") if isinstance(body, dict) else None
        if not isinstance(identifier, int | str | None):
            identifier = None
        try:
            method, params = _request(body)
            result = self._answer(method, params)
        except Refused as refused:
            return _error(identifier, refused)
        return {"jsonrpc": "2.0", "id": identifier, "result": result}

    def _answer(self, method: str, params: list[Any]) -> Any:
        if method in _CALLS:
            self._check_call(params)
        elif method == _LOGS:
            self._check_addresses(params)
        elif method == _SEND:
            raw = self._checked_transaction(params)
            found = self._ask(method, params)
            self.sent(raw)
            return found
        elif method not in _READ:
            raise Refused(_NO_SUCH_METHOD, f"{method[:40]} is not among what is answered here")
        return self._ask(method, params)

    # --- What may be asked -------------------------------------------------------------------------------------------------

    def _check_call(self, params: Sequence[Any]) -> None:
        # A third parameter would alter the state or the block that the call runs in.
        if not 1 <= len(params) <= 2 or not isinstance(params[0], dict):
            raise Refused(_INVALID_PARAMETERS, "give a call and a block")
        call = params[0]
        if not _CALL_FIELDS.issuperset(call):
            raise Refused(_INVALID_PARAMETERS, f"a call has {', '.join(sorted(_CALL_FIELDS))}")
        self._check_own(call.get("to"))

    def _check_addresses(self, params: Sequence[Any]) -> None:
        if len(params) != 1 or not isinstance(params[0], dict):
            raise Refused(_INVALID_PARAMETERS, "give a filter")
        given = params[0].get("address")
        addresses = given if isinstance(given, list) else [given]
        if not addresses:
            raise Refused(_INVALID_PARAMETERS, "name a contract")
        for address in addresses:
            self._check_own(address)

    def _checked_transaction(self, params: Sequence[Any]) -> bytes:
        if len(params) != 1 or not isinstance(params[0], str):
            raise Refused(_INVALID_PARAMETERS, "give one signed transaction")
        try:
            raw = bytes(HexBytes(params[0]))
            target = _target(raw)
        except Exception:  # whatever a stranger's bytes make the libraries raise
            raise Refused(_INVALID_PARAMETERS, "not a signed transaction") from None
        self._check_own(target)
        return raw

    def _check_own(self, address: object) -> None:
        if not isinstance(address, str) or address.lower() not in self._own:
            raise Refused(_INVALID_PARAMETERS, "only the community's own contracts are asked here")

    # --- The node ----------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, params: list[Any]) -> Any:
        # The provider's own middleware alone, which speaks JSON-RPC to the embedded chain; web3's is for callers in Python.
        ask = self.web3.provider.request_func(self.web3, NamedElementOnion([]))
        try:
            answer: Any = ask(RPCEndpoint(method), params)
        except NodeUnreachable:
            raise
        except NodeError as error:
            raise Refused(_FAILED, error.message[:200]) from None
        except Exception as error:  # the embedded chain raises what a node answers
            data = revert_data(error)
            if data:
                raise Refused(_REVERTED, "execution reverted", "0x" + data.hex()) from None
            raise Refused(_FAILED, f"the node refused: {str(error)[:200]}") from None
        if "error" in answer:
            fault = answer["error"]
            data = fault.get("data")
            shown = data if isinstance(data, str) else None
            raise Refused(int(fault.get("code", _FAILED)), str(fault.get("message"))[:200], shown)
        return _as_json(answer["result"])


def _request(body: Any) -> tuple[str, list[Any]]:
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        raise Refused(_INVALID_REQUEST, "not a request of JSON-RPC 2.0")
    params = body.get("params", [])
    if not isinstance(params, list) or len(params) > _PARAMETER_LIMIT:
        raise Refused(_INVALID_PARAMETERS, "give the parameters as a list")
    return body["method"], params


def _error(identifier: int | str | None, refused: Refused) -> dict[str, Any]:
    error: dict[str, Any] = {"code": refused.code, "message": refused.message}
    if refused.data is not None:
        error["data"] = refused.data
    return {"jsonrpc": "2.0", "id": identifier, "error": error}


def _target(raw: bytes) -> str:
    """Whom a signed transaction is for."""
    if raw[0] <= 0x7F:
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        return "0x" + bytes(fields["to"]).hex()
    # Before EIP-2718: nonce, gas price, gas, to, value, data, v, r, s.
    decoded: Any = rlp.decode(raw)
    return "0x" + bytes(decoded[3]).hex()


def _as_json(value: Any) -> Any:
    """The embedded chain's values as a node would write them: numbers and bytes in hexadecimal."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, bytes):
        return "0x" + bytes(value).hex()
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value]


def door_of(site: Site) -> NodeDoor:
    """The door of a community; made once."""
    found = site.extras.get("door")
    if found is None:
        contracts = site.contracts.addresses
        found = site.extras["door"] = NodeDoor(site.web3, contracts, lambda raw: catch_up(site))
    door: NodeDoor = found
    return door


def catch_up(site: Site) -> None:
    """After something was sent: a demonstration reads its chain at once; on a real one the coordinator's process does."""
    if site.demo is not None:
        with site.demo.player.stepping:
            site.demo.books.follow()
    site.changed()


@router.post("/rpc/{community}", tags=["chain"], summary="Ask the chain's node (JSON-RPC 2.0)")
async def ask_node(request: Request, site: AnySite) -> Response:
    """Reads about the community's contracts, and sends signed transactions to them."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        return JSONResponse(_error(None, Refused(-32700, "not JSON")))
    return JSONResponse(await run_in_threadpool(door_of(site).reply, body))
