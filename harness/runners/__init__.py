"""What runs pruners on paths: replayed from a bank, live, in this process or on a cluster."""
