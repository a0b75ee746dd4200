// What a state directory holds, read without the server: every row of every table of every database in it, as JSON.
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";

const [root] = process.argv.slice(2);
const held = {};
for (const name of fs.readdirSync(root, { recursive: true })) {
  if (!name.endsWith(".sqlite")) continue;
  const database = new DatabaseSync(path.join(root, name));
  const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
  held[name] = {};
  for (const { name: table } of tables) {
    const rows = database.prepare(`SELECT * FROM "${table}"`);
    rows.setReadBigInts(true);
    held[name][table] = rows.all().map((row) =>
      Object.values(row)
        .map((cell) => (cell instanceof Uint8Array ? Buffer.from(cell).toString("latin1") : String(cell)))
        .join("|"),
    );
  }
  database.close();
}
process.stdout.write(JSON.stringify(held));
