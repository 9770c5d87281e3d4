"""Agents that stay where they are: threads of LangGraph Agent Servers that wait for people become requests here.

`registered` reads which servers there are, `gateway` is the only door to them, `looking` asks which threads wait and
opens what they ask, `answering` sends the answer back, `rows` keeps how far each question has got, `looks` what was
found of each server. One answer for each question, however many relays there are: it is claimed in the database, sent
only while the thread still waits for that very interrupt, and a run of the thread that is under way refuses another.

What is approved runs on the server, from the thread's own state, outside the effect ledger. So before an answer is
sent, the call in the state is held against what was approved, and every card says that the effect is not tracked.
"""
