import { DatabaseSync } from 'node:sqlite'

/**
 * The application of the demo: a process of its own that keeps writing orders into a SQLite database until its input
 * ends. What an order holds follows from its number, and every order moves money between two accounts, so that a copy
 * that is not of one moment shows.
 */
const [path = ''] = process.argv.slice(2)
const database = new DatabaseSync(path, { timeout: 10_000 })
database.exec(`
  PRAGMA journal_mode = WAL;
  CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, body BLOB NOT NULL, total INTEGER GENERATED ALWAYS AS (id * 7) STORED);
  CREATE TABLE "odd ""name""" (note TEXT);
  INSERT INTO accounts VALUES (1, 1000000), (2, 0);
  INSERT INTO "odd ""name""" VALUES ('tab	newline
quote '' and emoji 🧱');
`)
const insert = database.prepare('INSERT INTO orders (id, customer, body) VALUES (?, ?, ?)')
const move = database.prepare('UPDATE accounts SET balance = balance + ? WHERE id = ?')
let order = 0

function write(count: number): void {
  database.exec('BEGIN IMMEDIATE')
  for (let n = 0; n < count; n++) {
    order++
    insert.run(order, `customer ${order % 97}`, Buffer.alloc(200, `\0order ${order}`))
    move.run(-1, 1)
    move.run(1, 2)
  }
  database.exec('COMMIT')
}

write(50_000)
process.stdout.write('ready\n')
const timer = setInterval(() => write(20), 5)
process.stdin.resume().once('end', () => {
  clearInterval(timer)
  database.close()
})
