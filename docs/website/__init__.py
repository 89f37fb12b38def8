"""What ``make docs`` writes of itself: method pages, the command line, the notebook, llms.txt, and every number of ``results/``."""
