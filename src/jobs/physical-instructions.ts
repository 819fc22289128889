import {
  type Artifact,
  findArtifact,
  isEncrypted,
  isEncryptedArtifact,
  type PhysicalFacts,
  type WalInterval,
} from '../domain/backup.ts'
import { segmentsOf } from './wal-stored.ts'

/** One backup of a chain. */
export interface ChainMember {
  readonly backupId: string
  readonly tablespaces: PhysicalFacts['tablespaces']
  /** Every artifact but RESTORE.md itself. */
  readonly artifacts: readonly Artifact[]
}

export interface PhysicalInstructionFacts {
  readonly cluster: string
  readonly systemIdentifier: string
  readonly serverVersion: string
  readonly serverMajor: number
  /** The end of the backup: nothing before it can be restored from it. */
  readonly stopTime: string
  readonly wal: readonly WalInterval[]
  readonly segmentSize: number
  readonly fromStandby: boolean
  /** The full one first, the backup itself last. */
  readonly chain: readonly ChainMember[]
}

/**
 * The RESTORE.md of a physical backup: how a person with `zstd`, `tar` and the programs of PostgreSQL gets the cluster back,
 * with the exact commands for this backup and the ones that it builds on. A test follows them.
 */
export function physicalInstructions(facts: PhysicalInstructionFacts): string {
  const { chain, serverMajor } = facts
  const last = chain.at(-1)
  if (last === undefined) throw new Error('unreachable: a chain has the backup itself')
  const isChain = chain.length > 1
  const [firstSegment = ''] = segmentsOf({ intervals: facts.wal, segmentSize: facts.segmentSize })
  const sums = chain.flatMap(({ backupId, artifacts }) =>
    artifacts
      .filter(({ name }) => name !== 'RESTORE.md')
      .map(({ name, stored }) => `${stored.sha256}  ../${backupId}/${name}`),
  )
  const data = isChain ? '$work/data' : `$work/${last.backupId}/data`
  return `# Restore backup ${last.backupId}

A physical backup of the whole cluster ${JSON.stringify(facts.cluster)}, from PostgreSQL ${facts.serverVersion}. With the WAL
that is stored beside it, every moment after ${facts.stopTime} can be restored, up to the end of the WAL.
${isChain ? `\nIt builds on ${chain.length - 1} other backup${chain.length > 2 ? 's' : ''}; all of them are needed:\n${chain.map(({ backupId }) => `- ${backupId}\n`).join('')}` : ''}
You need: \`sha256sum\`, ${chain.some(isEncrypted) ? '`age` and a private key that it was encrypted for, ' : ''}\`zstd\`, \`tar\`, \`bash\`, and PostgreSQL ${serverMajor} itself, no other major version, with its programs on
PATH (\`pg_verifybackup\`, ${isChain ? '`pg_combinebackup`, ' : ''}\`pg_controldata\`, \`pg_ctl\`, \`pg_isready\`). Nothing here touches the server whose backup it is, also on its own machine.

## 0. A place to work, and every byte checked

Begin in this folder of the repository, with bash, as a user that may read it (root, or the one that Lifeboat runs as). Nothing is
written here. Set TMPDIR where /tmp has not got room for the cluster${isChain ? ', several times over' : ''}.

\`\`\`bash
set -e -o pipefail
work=$(mktemp -d)
sha256sum --check <<'SUMS'
${sums.join('\n')}
SUMS
\`\`\`

## 1. Unpack

The archive holds links to the tablespaces of the server that was backed up. They go before anything else is done.

\`\`\`bash
${chain.some(isEncrypted) ? keyLines : ''}${chain.map((member) => unpackCommands(member)).join('\n')}
\`\`\`

## 2. Check every file

\`\`\`bash
${chain.map(({ backupId }) => `pg_verifybackup --no-parse-wal "$work/${backupId}/data"`).join('\n')}
\`\`\`
${isChain ? combineSection(chain, last) : ''}
## 3. Cut it loose

\`tablespace_map\` would have the new server use the directories of the old one.${serverMajor >= 17 ? '' : ' Without it the links made above count.'} Settings that were made by ALTER SYSTEM, such as
an archive_command, are set aside. \`pg_tblspc\` is closed during the recovery, which would otherwise make a tablespace that is younger than
the backup at its old path, where the old server may have it: it ends there instead. Where nobody has it make the directory, and leave the \`chmod\` out.${facts.fromStandby ? ' This is the backup of a standby: with its `standby.signal` it would never become a primary.' : ''}

\`\`\`bash
data="${data}"
rm -f "$data/tablespace_map" "$data/standby.signal"
mv "$data/postgresql.auto.conf" "$work/postgresql.auto.conf.before"
touch "$data/recovery.signal" "$data/postgresql.auto.conf"
chmod 500 "$data/pg_tblspc"
\`\`\`

## 4. Fetch the WAL

What ends in \`.age\` is encrypted, and needs \`age\` and a private key: \`LIFEBOAT_KEY\` says where its file is, if it is not \`key.txt\`.

\`\`\`bash
mkdir "$work/wal"
find ../../wal/${facts.systemIdentifier} -type f -name '????????????????????????-????????????.zst*' | while read -r file; do
  name=$(basename "$file")
  if [[ \${name:8:16} < ${firstSegment.slice(8)} ]]; then continue; fi
  case $name in
    *.zst) cp "$file" "$work/wal/\${name%%-*}.zst" ;;
    *.zst.age) age --decrypt --identity "\${LIFEBOAT_KEY:-key.txt}" --output "$work/wal/\${name%%-*}.zst" "$file" ;;
  esac
done
find ../../wal/${facts.systemIdentifier} -maxdepth 1 -name '*.history' -exec cp {} "$work/wal/" ';'
find "$work/wal" -name '*.history' -exec zstd --quiet --rm {} ';'
\`\`\`

## 5. Settings for the recovery

Without a target it replays all the WAL that there is. For a moment before, put the line recovery_target_time in force, with a
time after ${facts.stopTime}. A gap in the WAL looks like its end: compare what you get with what you expect.
(A restore_command with \`lifeboat-restore-wal\` tells the two apart, and refuses to end at a gap. Where the server was lost with its
newest WAL, and a segment of which nobody knows whether it is the last is missing, \`--missing-is-end\` says that the WAL ends there.)

\`\`\`bash
prepared=$(LC_ALL=C pg_controldata "$data" | sed -n 's/^max_prepared_xacts setting: *//p')
cat >"$work/postgresql.conf" <<CONF
restore_command = 'zstd --decompress --quiet --force -o "%p" "$work/wal/%f.zst"'
recovery_end_command = 'chmod 700 pg_tblspc'
recovery_target_timeline = '${facts.wal.at(-1)?.timeline ?? 1}'
#recovery_target_time = '${facts.stopTime}'
recovery_target_action = 'promote'
archive_mode = off
hot_standby = off
listen_addresses = ''
unix_socket_directories = '$work'
hba_file = '$work/pg_hba.conf'
ident_file = '$work/pg_ident.conf'
max_prepared_transactions = $prepared
CONF
echo 'local all all trust' >"$work/pg_hba.conf"
touch "$work/pg_ident.conf"
chmod 700 "$data"
\`\`\`

## 6. Start

As the OS user that PostgreSQL runs as. To go on as that one, as root: \`chown -R postgres "$work"\`, then
\`export work data; runuser -u postgres bash\`.

\`\`\`bash
pg_ctl --pgdata="$data" --options="-c config_file=$work/postgresql.conf" --log="$work/server.log" start
until pg_isready --quiet --host="$work"; do
  pg_ctl --pgdata="$data" status >/dev/null || { tail "$work/server.log"; break; }
  sleep 1
done
\`\`\`

When the recovery is over, the server takes connections through its socket, which only you can reach: \`psql --host="$work" --dbname=postgres\`.
The log, \`$work/server.log\`, says how far it came.

## 7. Before it goes into use

Look at the data. Then stop the server (\`pg_ctl --pgdata="$data" stop\`), put the directory where it belongs, and give it
a configuration: ${configWords(facts, last)}, and \`$work/postgresql.auto.conf.before\` what ALTER SYSTEM had set.
Switch archiving on only when the old server is gone for good.
`
}

function configWords({ fromStandby }: PhysicalInstructionFacts, { artifacts }: ChainMember): string {
  const saved = findArtifact({ artifacts }, 'config.tar')
  const what = fromStandby ? 'the files of the primary' : 'the files that lay outside of the data directory'
  if (saved !== undefined)
    return isEncryptedArtifact(saved)
      ? `\`${saved.name}\` holds ${what} (\`age -d -i "$key" ${saved.name} | tar --extract\`)`
      : `\`config.tar\` holds ${what} (\`tar --extract --file=config.tar\`)`
  const [which, where] = fromStandby
    ? ['the primary', '']
    : ['the old server', ', if it lay outside of the data directory,']
  return `that of ${which}${where} is not in this backup`
}

/** Put by whoever restores; WAL may need it as well. */
const keyLines = `# the file with a private key that these were encrypted for
key=\${LIFEBOAT_KEY:-key.txt}
test -r "$key"
`

function unpackCommands(member: ChainMember): string {
  const { backupId, tablespaces } = member
  const folder = `"$work/${backupId}`
  return `mkdir -p -m 700 ${folder}/data"
${unpackArchive(member, 'base.tar.zst', `${folder}/data"`)}
find ${folder}/data/pg_tblspc" -type l -delete
${copyListing(member, `${folder}/data/backup_manifest"`)}
${tablespaces
  .map(
    ({ oid, artifact }) => `mkdir -m 700 ${folder}/${oid}"
${unpackArchive(member, artifact, `${folder}/${oid}"`)}
ln -s ${folder}/${oid}" ${folder}/data/pg_tblspc/${oid}"
`,
  )
  .join('')}`
}

function unpackArchive({ backupId, artifacts }: ChainMember, name: string, target: string): string {
  const { name: stored } = findArtifact({ artifacts }, name) ?? { name }
  const path = `../${backupId}/${stored}`
  const plain = isEncryptedArtifact({ name: stored })
    ? `age -d -i "$key" ${path} | zstd --decompress --stdout`
    : `zstd --decompress --stdout ${path}`
  return `${plain} | tar --extract --no-same-owner --directory=${target}`
}

function copyListing({ backupId, artifacts }: ChainMember, target: string): string {
  const { name } = findArtifact({ artifacts }, 'backup_manifest') ?? { name: 'backup_manifest' }
  const path = `../${backupId}/${name}`
  return isEncryptedArtifact({ name }) ? `age -d -i "$key" -o ${target} ${path}` : `cp ${path} ${target}`
}

function combineSection(chain: readonly ChainMember[], last: ChainMember): string {
  const mapped = last.tablespaces.map(({ oid }) => `--tablespace-mapping="$work/${last.backupId}/${oid}=$work/${oid}" `)
  const inputs = chain.map(({ backupId }) => `"$work/${backupId}/data"`)
  return `
Then put them together. It would go through with damaged ones, too: never leave the check out.

\`\`\`bash
pg_combinebackup ${mapped.join('')}--output="$work/data" \\
  ${inputs.join(' \\\n  ')}
\`\`\`
`
}
