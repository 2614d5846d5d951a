# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_groundmist_sync_global_optspecs
    string join \n json config= data-dir= h/help V/version
end

function __fish_groundmist_sync_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_groundmist_sync_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_groundmist_sync_using_subcommand
    set -l cmd (__fish_groundmist_sync_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -s V -l version -d 'Print version'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "serve" -d 'Run the server until it is told to stop'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "token" -d 'Make, list and revoke the sync tokens of devices (needs the running server)'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "apps" -d 'Decide which apps get in, and see which have asked (needs the running server)'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "sessions" -d 'See who is connected as what, and end it (needs the running server)'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "docs" -d 'Look at the documents, take them out and in as .automerge files, delete and restore them'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "import" -d 'Take over the data directory of the prototype, or any that automerge-repo\'s NodeFSStorageAdapter wrote'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "status" -d 'Say how the running server is'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "sign-in" -d 'Print a link that signs a browser in on the owner\'s page (needs the running server)'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "backup" -d 'Write everything into one file, while the server runs or when it is stopped'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "restore" -d 'Put a backup in place of what is there (stop the server first)'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "secret" -d 'Change the secret that signs sync tokens'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "reload" -d 'Have the running server read its configuration again'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "setup" -d 'Set the server up: three answers, each checked, and it runs with a certificate'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "publish" -d 'Tell apps where this server is, by a record in your own repository'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "doctor" -d 'Look at everything that has to be right, and say how to mend what is not'
complete -c groundmist-sync -n "__fish_groundmist_sync_needs_command" -f -a "config" -d 'Look at the configuration'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l port -d 'Port to listen on, 0 for any free one [default: 3030]' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l log-level -d 'error, warn, info, debug or trace [default: info]' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l log-format -d 'auto, text, json or journald [default: auto]' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l dev -d 'Try it out: no configuration needed, fresh data that is removed at the end unless --data-dir is given, and a URL with a token on stdout'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand serve" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -f -a "create" -d 'Make a sync token and print it; it cannot be shown again'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -f -a "list" -d 'List sync tokens, those that expired lately included'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and not __fish_seen_subcommand_from create list revoke" -f -a "revoke" -d 'Revoke a sync token and close its connections'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l name -d 'What you call the device' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l namespace -d 'The app\'s lexicon authority domain, such as xyz.example: the token sees its documents only' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l expires -d 'How long it is good for, such as 12h or 30d [default: access.token_life, 30d]' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l read-only -d 'It may only read'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from list" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from list" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from list" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from revoke" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from revoke" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from revoke" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand token; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "list" -d 'List the apps you decided about'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "pending" -d 'List the apps that asked and wait for your decision'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "approve" -d 'Let an app in'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "deny" -d 'Refuse an app from now on, and end its sessions'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "revoke" -d 'Take an approval back and end the app\'s sessions; if it asks again it waits for you again'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "forget-root" -d 'Forget which document an app\'s devices start from'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and not __fish_seen_subcommand_from list pending approve deny revoke forget-root log" -f -a "log" -d 'Show what was decided, who entered and who was refused'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from list" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from list" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from list" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from pending" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from pending" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from pending" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from pending" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from approve" -l namespace -d 'Namespace that the command is about' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from approve" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from approve" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from approve" -l read-only -d 'It may only read'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from approve" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from approve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from deny" -l namespace -d 'Namespace that the command is about' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from deny" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from deny" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from deny" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from deny" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from revoke" -l namespace -d 'Namespace that the command is about' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from revoke" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from revoke" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from revoke" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from forget-root" -l namespace -d 'Namespace, if the app\'s devices start from a document in several' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from forget-root" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from forget-root" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from forget-root" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from forget-root" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from log" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from log" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from log" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand apps; and __fish_seen_subcommand_from log" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and not __fish_seen_subcommand_from list revoke" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and not __fish_seen_subcommand_from list revoke" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and not __fish_seen_subcommand_from list revoke" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and not __fish_seen_subcommand_from list revoke" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and not __fish_seen_subcommand_from list revoke" -f -a "list" -d 'List all sessions, of apps and of tokens, those that expired lately included'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and not __fish_seen_subcommand_from list revoke" -f -a "revoke" -d 'End a session and close its connections'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from list" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from list" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from list" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from revoke" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from revoke" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from revoke" -l all -d 'End every session and token; every device has to authenticate again'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from revoke" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sessions; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "list" -d 'List all documents'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "show" -d 'Show a document\'s heads, sizes and times'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "delete" -d 'Delete a document; for 30 days it can be restored'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "restore" -d 'Bring a deleted document back, as it was'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "purge" -d 'Delete a deleted document for good, before its 30 days are over'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "retry" -d 'Forget what went wrong with a document, and allow the server to open it again'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "export" -d 'Write a document to a file, or all of them to a directory'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and not __fish_seen_subcommand_from list show delete restore purge retry export import" -f -a "import" -d 'Take documents in from .automerge files, or from a directory that `docs export --all` wrote'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from list" -l namespace -d 'Of this namespace only' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from list" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from list" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from list" -l deleted -d 'Those that are deleted and can be restored'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from list" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from show" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from show" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from show" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from delete" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from delete" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from delete" -l yes -d 'Do not ask'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from delete" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from restore" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from restore" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from restore" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from purge" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from purge" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from purge" -l yes -d 'Do not ask'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from purge" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from purge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from retry" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from retry" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from retry" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from export" -l all -d 'All documents, as DIR/NAMESPACE/DOCUMENT.automerge; files that are there are replaced' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from export" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from export" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from export" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from import" -l as -d 'The id of the one file\'s document' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from import" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from import" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from import" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand docs; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand import" -l namespace -d 'DIR is the documents of this one namespace' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand import" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand import" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand import" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand status" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand status" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand status" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand status" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sign-in" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sign-in" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sign-in" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand sign-in" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -l to -d 'Directory for a file with date and time in its name' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -l keep -d 'Then remove the oldest such files in DIR, so that NUMBER are left' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -l force -d 'Overwrite FILE'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -l force -d 'Also if there are documents; they are kept under another name'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -l check -d 'Only check whether the backup is whole'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -l rotate-secret -d 'Then make a new signing secret, as `secret rotate` does: somebody else may have the backup too'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and not __fish_seen_subcommand_from rotate" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and not __fish_seen_subcommand_from rotate" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and not __fish_seen_subcommand_from rotate" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and not __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and not __fish_seen_subcommand_from rotate" -f -a "rotate" -d 'Make a new secret, and end every session and token, while the server runs or is stopped'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and __fish_seen_subcommand_from rotate" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand secret; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand reload" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand reload" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand reload" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l domain -d 'Name by which apps reach this server, such as sync.example.com' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l owner -d 'Your handle or DID' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l email -d 'E-mail address that the certificate authority may write to; - for none' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l staging -d 'Have certificates from Let\'s Encrypt\'s test authority: nobody trusts them, and its limits are wide'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l no-staging -d 'Have real certificates again'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l publish -d 'Write the record that tells apps where this server is, without asking whether; wants an app password'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l no-publish -d 'Do not offer to'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l no-start -d 'Do not start the server'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l yes -d 'Ask nothing, and go on in spite of warnings'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -l host -d 'Name by which apps find this server, such as sync.example.com [default: domain]' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -l remove -d 'Remove the record instead'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -l yes -d 'Do not ask before writing'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand publish" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand doctor" -l host -d 'Name by which apps are to find this server, such as sync.example.com [default: domain]' -r
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand doctor" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand doctor" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand doctor" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -f -a "check" -d 'Check everything and show each setting with where it comes from'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -f -a "get" -d 'Print what the configuration file sets a key to: nothing if it does not, a line for each value of a list'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and not __fish_seen_subcommand_from check get set" -f -a "set" -d 'Change settings in the configuration file, and keep its comments'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from check" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from check" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from get" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from get" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from get" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from set" -l config -d 'Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from set" -l data-dir -d 'Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]' -r -F
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from set" -l json -d 'Print results and errors as JSON'
complete -c groundmist-sync -n "__fish_groundmist_sync_using_subcommand config; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
