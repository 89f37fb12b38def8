"""The benchmark machinery; it knows pruners, tasks and engines only by the contracts in `harness.api`."""
