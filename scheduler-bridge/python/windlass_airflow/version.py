"""Version of this package: the workspace's, so that plugin and daemon of one release carry one number."""

__version__ = "0.1.0"
