"""What the control API asks of the agent, answered by the real parts: a small class for each of its subjects. Converts, decides
nothing; agent/control/api says what each call means.
"""
