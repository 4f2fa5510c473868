"""The controller: it keeps endpoints, Events and the store in step with each other and with the cluster."""
