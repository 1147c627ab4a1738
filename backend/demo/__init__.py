"""The demonstration: a real community's day from meter to settled balance, every part the real one."""
