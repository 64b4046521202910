"""Agents that are otherwise in one thing: their clock, their looks, their kernel, what fails in them."""
