#!/bin/bash
python3 /app/download.py
