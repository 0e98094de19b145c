"""The service and what its sessions share with the engine. See README.md."""
