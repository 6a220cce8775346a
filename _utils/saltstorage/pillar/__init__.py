"""From pillar to states: what the SLS files of the formula render."""
