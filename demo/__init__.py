"""The whole line on one machine: a process in a real pod dies, and kubectl fetches its core."""
