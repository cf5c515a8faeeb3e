"""The catalogue on Apache Iceberg: light in the hub (iceberg, clerk), heavy in its worker process."""
