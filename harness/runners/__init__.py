"""Run pruners on paths: from a bank or live, in this process or on a cluster."""
