"""What the operating system tells of a process: the last row of several dashboards."""

from model import Panel

PROCESS = (
    "Process",
    [
        Panel("Processor", "Processor time spent a second: 1 is one core.", "short", [("{{instance}}", "rate(process_cpu_seconds_total{@}[$__rate_interval])")]),
        Panel("Memory", "Memory that is resident.", "bytes", [("{{instance}}", "process_resident_memory_bytes{@}")]),
        Panel(
            "File descriptors in use",
            "Open file descriptors, as a share of those that may be open. Each connection and each open table takes one.",
            "percentunit",
            [("{{instance}}", "process_open_fds{@} / process_max_fds{@}")],
        ),
    ],
)
