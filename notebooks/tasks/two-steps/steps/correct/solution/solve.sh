#!/bin/bash
sed -i -E 's/^([^,]*,[^,]*,[^,]*),([^,]*)$/\1.\2/' /app/readings.csv
