"""Who may decide what, and by when: a list of rules in the database, and the terms it gives for one proposal.

`rules` says what a rule is, `conditions` how it looks at arguments, `policy` how a list of them is asked,
`proposal.terms` what it gives, `asking` asks the one that is active, `words` reads rules aloud.
`services.changing_policy` changes it, `reading.policy_preview` says what a change would mean.
"""
