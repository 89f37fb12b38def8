"""The benchmark harness. It uses pruners, tasks and engines only through the contracts in `harness.api`."""
