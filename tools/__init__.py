"""Programs that people who work on the project run: `make help` names the targets that call them."""
