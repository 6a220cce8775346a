"""The consumer: the minion's side, which turns connections into block devices of this host."""
