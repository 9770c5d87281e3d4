"""What an operator does about one run: a file for each action, and one line in the table (`table.ACTIONS`).

Each says first what it would do (`Action.preview`), then does it in the transaction that records it (`acting.act`).
What has to reach Temporal goes through the outbox. A page's form and the API's fields come from the action's Options.
"""
