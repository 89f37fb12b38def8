"""The embedded testbeds: small worlds with a model of one million parameters each."""
