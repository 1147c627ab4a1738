// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TestToken} from "./TestToken.sol";

/// @title A token that keeps one percent of every transfer
contract TestFeeToken is TestToken {
    constructor(uint8 decimals_) TestToken(decimals_) {}

    function _update(address from, address to, uint256 tokens) internal override {
        uint256 fee = from == address(0) || to == address(0) ? 0 : tokens / 100;
        super._update(from, to, tokens - fee);
        if (fee != 0) super._update(from, address(0), fee);
    }
}
