#!/bin/bash
grep -cE '^([^,]*,){3}[^,]*$' /app/readings.csv > /app/bad_lines.txt
