"""The Solidity sources, their committed ABI and bytecode, and the one door from Python to them."""
