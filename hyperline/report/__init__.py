"""The report: one HTML file of a strip, a bench, a calibration and an evaluation, whichever there are.

It reads files alone, whoever wrote them, and needs neither the stages nor a network. What it reads is a stranger's:
every text is escaped, every number checked, and the page may load nothing (its Content-Security-Policy says so).
"""

from hyperline.report.inputs import Inputs, read_inputs
from hyperline.report.page import Report, write_report

__all__ = ["Inputs", "Report", "read_inputs", "write_report"]
