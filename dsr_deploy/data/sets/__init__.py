"""A module per data set, with its :class:`~dsr_deploy.data.source.Source`."""
