"""Third-party code held to its contract: what it declares and returns, what it may see and change, how it is identified."""
