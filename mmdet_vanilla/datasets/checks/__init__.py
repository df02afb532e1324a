from .check import CheckResult, check_data, summary_line, write_report

__all__ = ['CheckResult', 'check_data', 'summary_line', 'write_report']
