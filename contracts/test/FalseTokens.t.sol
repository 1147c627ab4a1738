// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVault} from "../src/interfaces/IVault.sol";
import {Leaving} from "./support/Leaving.sol";
import {vm} from "./support/Vm.sol";

/// @title A token that answers as it likes, and calls back whoever moves it
contract FalseToken {
    enum Fault {
        None,
        Silent,
        Refusing
    }

    uint8 public constant decimals = 6;
    mapping(address owner => uint256) public balanceOf;
    /// @notice Calls back that succeeded.
    uint256 public reentered;
    Fault private _fault;
    bytes private _callback;
    uint256 private _callbacks;

    function mint(address to, uint256 tokens) external {
        balanceOf[to] += tokens;
    }

    function become(Fault fault, bytes calldata callback) external {
        _fault = fault;
        _callback = callback;
        _callbacks = callback.length == 0 ? 0 : 2;
    }

    function transfer(address to, uint256 tokens) external returns (bool) {
        return _move(msg.sender, to, tokens);
    }

    function transferFrom(address from, address to, uint256 tokens) external returns (bool) {
        return _move(from, to, tokens);
    }

    function _move(address from, address to, uint256 tokens) private returns (bool) {
        if (_callbacks != 0) {
            --_callbacks;
            (bool succeeded,) = msg.sender.call(_callback);
            if (succeeded) ++reentered;
        }
        if (_fault == Fault.Refusing) return false;
        balanceOf[from] -= tokens;
        balanceOf[to] += tokens;
        if (_fault == Fault.Silent) {
            assembly ("memory-safe") {
                return(0, 0)
            }
        }
        return true;
    }
}

/// @title What tokens do that are not what they should be
contract FalseTokensTest is Leaving {
    FalseToken private _token;
    IVault private _vault;
    uint256 private constant _SLOT = FIRST_MEMBER;

    function _open() private returns (Book memory book) {
        book = settle();
        _token = new FalseToken();
        _vault = IVault(
            vm.deployCode(
                "artifacts/Vault.json", abi.encode(address(_token), address(clearingHouse), address(registry))
            )
        );
        _token.mint(address(this), 3 * DEPOSIT);
    }

    function _withdrawal(Book memory book, uint256 tokens) private pure returns (bytes memory) {
        bytes32[] memory proof = ledgerProof(book, SLOTS + _SLOT);
        return abi.encodeCall(IVault.withdraw, (tokens, book.header.ledgerHead(), book.leaves[_SLOT], proof));
    }

    function _most(Book memory book) private view returns (uint256) {
        return _vault.withdrawable(_SLOT, book.leaves[_SLOT].sums.cumulative(), book.header.ledgerHead());
    }

    function test_ATokenThatReturnsNothingIsTaken() public {
        Book memory book = _open();
        _token.become(FalseToken.Fault.Silent, "");
        _vault.deposit(_SLOT, DEPOSIT);
        _vault.deposit(_SLOT + 1, DEPOSIT);
        uint256 most = _most(book);
        (bool paid,) = address(_vault).call(_withdrawal(book, most));
        vm.assertTrue(paid, "paid");
        vm.assertEq(_token.balanceOf(accountOf(_SLOT)), most, "to the owner");
    }

    function test_ATokenThatReturnsFalseMovesNothingOnTheLedger() public {
        Book memory book = _open();
        _vault.deposit(_SLOT, DEPOSIT);
        uint256 most = _most(book);
        _token.become(FalseToken.Fault.Refusing, "");
        (bool paid,) = address(_vault).call(_withdrawal(book, most));
        vm.assertTrue(!paid, "not paid");
        (bool taken,) = address(_vault).call(abi.encodeCall(IVault.deposit, (_SLOT, DEPOSIT)));
        vm.assertTrue(!taken, "not paid in");
        vm.assertEq(_vault.depositedNano(_SLOT), DEPOSIT * 1000, "as before");
        vm.assertEq(_most(book), most, "still there");
    }

    /// @dev The same proof again, from within the transfer that it brought about: what is left is known by then.
    function test_AWithdrawalThatIsCalledBackPaysNothingTwice() public {
        Book memory book = _open();
        _vault.deposit(_SLOT, DEPOSIT);
        _vault.deposit(_SLOT + 1, DEPOSIT);
        uint256 most = _most(book);
        bytes memory all = _withdrawal(book, most);
        _token.become(FalseToken.Fault.None, all);
        (bool paid,) = address(_vault).call(all);
        vm.assertTrue(paid, "paid");
        vm.assertEq(_token.reentered(), 0, "not twice");
        vm.assertEq(_token.balanceOf(accountOf(_SLOT)), most, "once");
    }

    /// @dev Two halves are what there is, whichever way they are asked for; a third is not there.
    function test_HalvesFromWithinEachOtherAreTwo() public {
        Book memory book = _open();
        _vault.deposit(_SLOT, DEPOSIT);
        _vault.deposit(_SLOT + 1, DEPOSIT);
        uint256 half = _most(book) / 2;
        bytes memory call = _withdrawal(book, half);
        _token.become(FalseToken.Fault.None, call);
        (bool paid,) = address(_vault).call(call);
        vm.assertTrue(paid, "paid");
        vm.assertEq(_token.balanceOf(accountOf(_SLOT)), 2 * half, "two halves");
        vm.assertTrue(_most(book) < half, "nothing left");
    }

    function test_ADepositFromWithinADepositCountsOnce() public {
        _open();
        _token.become(FalseToken.Fault.None, abi.encodeCall(IVault.deposit, (_SLOT, DEPOSIT)));
        _token.mint(address(_token), 3 * DEPOSIT);
        uint256 before = _token.balanceOf(address(_vault));
        (bool taken,) = address(_vault).call(abi.encodeCall(IVault.deposit, (_SLOT + 1, DEPOSIT)));
        uint256 counted = _vault.depositedNano(_SLOT) + _vault.depositedNano(_SLOT + 1);
        vm.assertTrue(!taken || counted == (_token.balanceOf(address(_vault)) - before) * 1000, "as much as came");
    }
}
