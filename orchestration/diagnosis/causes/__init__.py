"""How each cause is detected: functions of the facts about one run, in a file for each kind of source."""
