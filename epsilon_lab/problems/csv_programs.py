"""The CSV task's seed program, and other bodies for its functions: what the offline proposer builds with.

The seed is how one writes it at first. Among the alternatives are faster, slower and wrong ones, unmarked: finding out
is the search's business, and no single one is the answer. The texts are in the syntax tree's own layout, so that a diff
between two programs shows what changed and nothing else.
"""

from __future__ import annotations

SEED = """\
import csv

COLUMNS = ('customer_id', 'region', 'product', 'quantity', 'unit_price', 'discount_pct', 'timestamp')

def read_rows(csv_path):
    rows = []
    with open(csv_path, newline='', encoding='utf-8') as file:
        for row in csv.DictReader(file):
            rows.append([row[column].strip() for column in COLUMNS])
    return rows

def number(text):
    text = text.strip().replace(',', '')
    if text == '':
        return 0.0
    return float(text)

def revenue(quantity, unit_price, discount_pct):
    gross = number(quantity) * number(unit_price)
    return gross - gross * number(discount_pct) / 100.0

def add_up(rows):
    total = 0.0
    for row in rows:
        total += revenue(row[3], row[4], row[5])
    regions = {}
    for region in sorted({row[1] for row in rows}):
        regions[region] = sum((revenue(row[3], row[4], row[5]) for row in rows if row[1] == region))
    customers = {}
    for row in rows:
        customer = row[0]
        if customer not in customers:
            customers[customer] = 0.0
        customers[customer] += revenue(row[3], row[4], row[5])
    units = {}
    for product in sorted({row[2] for row in rows}):
        units[product] = sum((int(row[3]) for row in rows if row[2] == product))
    return (len(rows), total, regions, customers, units)

def top_customers(customers):
    ranked = sorted(customers, key=lambda customer: (-customers[customer], customer))
    return [[customer, round(customers[customer], 6)] for customer in ranked[:5]]

def aggregate_orders(csv_path):
    rows = read_rows(csv_path)
    count, total, regions, customers, units = add_up(rows)
    answer = {'row_count': count, 'total_revenue': round(total, 6), 'product_units': units}
    answer['region_totals'] = {region: round(value, 6) for region, value in regions.items()}
    answer['top_customers'] = top_customers(customers)
    return answer
"""

ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "read_rows": (
        """\
def read_rows(csv_path):
    with open(csv_path, newline='', encoding='utf-8') as file:
        return list(csv.reader(file))[1:]
""",
        """\
def read_rows(csv_path):
    with open(csv_path, newline='', encoding='utf-8') as file:
        reader = csv.reader(file)
        next(reader)
        return [row for row in reader if row]
""",
        """\
def read_rows(csv_path):
    with open(csv_path, newline='', encoding='utf-8') as file:
        reader = csv.reader(file)
        next(reader)
        yield from filter(None, reader)
""",
        """\
def read_rows(csv_path):
    with open(csv_path, encoding='utf-8') as file:
        return [line.split(',') for line in file.read().splitlines()[1:] if line]
""",
        """\
def read_rows(csv_path):
    with open(csv_path, newline='', encoding='utf-8') as file:
        next(file)
        for line in file:
            if '"' in line:
                while line.count('"') % 2:
                    line += next(file)
                yield next(csv.reader([line]))
            elif not line.isspace():
                yield line.split(',')
""",
        """\
def read_rows(csv_path):
    with open(csv_path, newline='', encoding='utf-8') as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    return [[row.get(column, '') for column in COLUMNS] for row in rows]
""",
    ),
    "number": (
        """\
def number(text):
    return float(text or 0)
""",
        """\
def number(text):
    try:
        return float(text)
    except ValueError:
        return 0.0
""",
        """\
def number(text, seen={}):
    value = seen.get(text)
    if value is None:
        value = seen[text] = float(text) if text else 0.0
    return value
""",
        """\
def number(text):
    return float(text)
""",
        """\
def number(text):
    from decimal import Decimal
    return float(Decimal(text.strip() or '0'))
""",
    ),
    "revenue": (
        """\
def revenue(quantity, unit_price, discount_pct):
    value = float(quantity) * float(unit_price)
    if discount_pct:
        value *= 1.0 - float(discount_pct) / 100.0
    return value
""",
        """\
def revenue(quantity, unit_price, discount_pct):
    return int(quantity) * float(unit_price) * (100.0 - number(discount_pct)) / 100.0
""",
        """\
def revenue(quantity, unit_price, discount_pct):
    price = float(unit_price)
    return round(int(quantity) * (price - price * number(discount_pct) / 100.0), 2)
""",
    ),
    "add_up": (
        """\
def add_up(rows):
    count, total, regions, customers, units = (0, 0.0, {}, {}, {})
    for row in rows:
        value = revenue(row[3], row[4], row[5])
        count += 1
        total += value
        regions[row[1]] = regions.get(row[1], 0.0) + value
        customers[row[0]] = customers.get(row[0], 0.0) + value
        units[row[2]] = units.get(row[2], 0) + int(row[3])
    return (count, total, regions, customers, units)
""",
        """\
def add_up(rows):
    from collections import defaultdict
    count = 0
    regions, customers, units = (defaultdict(float), defaultdict(float), defaultdict(int))
    for customer, region, product, quantity, unit_price, discount_pct, timestamp in rows:
        count += 1
        number_of_units = int(quantity)
        value = number_of_units * float(unit_price)
        if discount_pct:
            value -= value * float(discount_pct) / 100.0
        regions[region] += value
        customers[customer] += value
        units[product] += number_of_units
    return (count, sum(regions.values(), 0.0), dict(regions), dict(customers), dict(units))
""",
        """\
def add_up(rows):
    values = [revenue(row[3], row[4], row[5]) for row in rows]
    regions, customers, units = ({}, {}, {})
    for row, value in zip(rows, values):
        regions.setdefault(row[1], []).append(value)
        customers.setdefault(row[0], []).append(value)
        units.setdefault(row[2], []).append(int(row[3]))
    regions = {region: sum(values) for region, values in regions.items()}
    customers = {customer: sum(values) for customer, values in customers.items()}
    units = {product: sum(counts) for product, counts in units.items()}
    return (len(rows), sum(values, 0.0), regions, customers, units)
""",
        """\
def add_up(rows):
    if not rows:
        return (0, 0.0, {}, {}, {})
    customer_ids, region_names, products, quantities, prices, discounts, timestamps = zip(*rows)
    values = list(map(revenue, quantities, prices, discounts))
    regions, customers, units = ({}, {}, {})
    for region, value in zip(region_names, values):
        regions[region] = regions.get(region, 0.0) + value
    for customer, value in zip(customer_ids, values):
        customers[customer] = customers.get(customer, 0.0) + value
    for product, quantity in zip(products, map(int, quantities)):
        units[product] = units.get(product, 0) + quantity
    return (len(values), sum(values, 0.0), regions, customers, units)
""",
    ),
}
"""Name of a function of the seed program -> other bodies."""
