"""From pillar to states: the states that the SLS files of the formula render."""
