"""`python -m threadyard_worker`: a worker started by itself, without a zygote."""

from .worker import main

main()
