"""What tests borrow of the machine: its browser, a bucket, a disk of their own, processes to kill."""
