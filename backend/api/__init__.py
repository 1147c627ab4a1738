"""The web API: what members, auditors, the coordinator and the operator of the network get to see, and what they can ask for."""
