"""Damaged and hostile inputs by the thousand, each through the door that a user's would take:
`python -m tests.campaign --help`.
"""
