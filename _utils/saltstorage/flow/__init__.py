"""Both ends of one operation: the steps on this host and the controller, safe against crashes."""
