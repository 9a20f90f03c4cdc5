// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

// The part that is the same whatever the commands are. It reads what
// the functions made from the table leave in group, flags and values.
static const char engine[] = "_patchbay() {\n"
                             "    # Not COMP_WORDS: readline cuts words at colons and equals signs, too.\n"
                             "    local line=${COMP_LINE:0:COMP_POINT}\n"
                             "    local typed\n"
                             "    read -ra typed <<<\"$line\"\n"
                             "    [[ $line == *[[:space:]] ]] && typed+=(\"\")\n"
                             "    local last=$((${#typed[@]} - 1))\n"
                             "    local current=${typed[last]} previous=${typed[last - 1]}\n"
                             "    local verb= group= flags= values= i word\n"
                             "    local words=() where=()\n"
                             "    for ((i = 1; i < last; i++)); do\n"
                             "        word=${typed[i]}\n"
                             "        case $word in\n"
                             "        --socket | --network) where+=(\"$word\" \"${typed[++i]}\") ;;\n"
                             "        --*) [[ $_patchbay_valued == *\" $word \"* ]] && ((i++)) ;;\n"
                             "        *)\n"
                             "            if [[ -z $verb ]]; then\n"
                             "                verb=$word\n"
                             "                _patchbay_group \"$verb\"\n"
                             "            elif [[ -n $group && $verb != *\" \"* ]]; then\n"
                             "                verb+=\" $word\"\n"
                             "            else\n"
                             "                words+=(\"$word\")\n"
                             "            fi\n"
                             "            ;;\n"
                             "        esac\n"
                             "    done\n"
                             "    if [[ $_patchbay_valued == *\" $previous \"* ]]; then\n"
                             "        _patchbay_values \"$previous\"\n"
                             "    elif [[ $current == -* ]]; then\n"
                             "        _patchbay_flags \"$verb\"\n"
                             "        values=\"$flags $_patchbay_globals\"\n"
                             "    elif [[ -z $verb ]]; then\n"
                             "        values=$_patchbay_commands\n"
                             "    elif [[ -n $group && $verb != *\" \"* ]]; then\n"
                             "        values=$group\n"
                             "    else\n"
                             "        _patchbay_arguments \"$verb\" \"${#words[@]}\"\n"
                             "    fi\n"
                             "    COMPREPLY=($(compgen -W \"$values\" -- \"$current\"))\n"
                             "    # A key or a kind goes on after its last character.\n"
                             "    [[ ${COMPREPLY[0]} == *[=:] ]] && compopt -o nospace 2>/dev/null\n"
                             "    # Where readline cuts at colons, it wants what stands behind the last one.\n"
                             "    [[ $current == *:* && $COMP_WORDBREAKS == *:* ]] &&\n"
                             "        COMPREPLY=(\"${COMPREPLY[@]#\"${current%\"${current##*:}\"}\"}\")\n"
                             "    return 0\n"
                             "}\n"
                             "# Where nothing is known, files: -f, --socket, export.\n"
                             "complete -o default -F _patchbay patchbay\n";

// What completes an argument or value that is called name: words, or a
// question to the daemon.
static const char *completer(const char *name)
{
    static const struct {
        const char *name, *words;
    } completers[] = {
        {"WIRE", "$(_patchbay_names wire ls)"},
        {"PORT", "$(_patchbay_names port ls)"},
        {"OUT_PORT", "$(_patchbay_names port ls)"},
        {"A", "$(_patchbay_names port ls)"},
        {"B", "$(_patchbay_names port ls)"},
        {"VIF", "$(_patchbay_names vif ls)"},
        {"NETWORK", "$(_patchbay_names network ls)"},
        {"TEE", "$(_patchbay_names tee ls \"${words[0]}\")"},
        {"ENTITY", "$(_patchbay_entities)"},
        {"KIND[:TARGET]", "vhost: vhost-server: dev: kernel-new: none"},
        {"KEY", "$(_patchbay_keys)"},
    };
    // "[WIRE]" and "VIF..." are completed as WIRE and VIF are.
    char *bare = text_slice(name, strcspn(name, "."));
    size_t length = strlen(bare);
    if (length > 1 && bare[0] == '[' && bare[length - 1] == ']')
        bare = text_slice(bare + 1, length - 2);
    for (size_t i = 0; i < sizeof(completers) / sizeof(*completers); i++)
        if (strcmp(completers[i].name, bare) == 0)
            return completers[i].words;
    if (strchr(bare, '|') == NULL)
        return "";
    for (char *bar = strchr(bare, '|'); bar != NULL; bar = strchr(bar, '|'))
        *bar = ' ';
    return bare;
}

// The keys that a KEY=VALUE command takes stand in its details.
static const char *key_words(const struct command *command)
{
    const char *key = strstr(command->details, "Keys: ");
    const char *words = "";
    for (key = key == NULL ? "" : key + strlen("Keys: "); *key != '\0';) {
        size_t length = strspn(key, "abcdefghijklmnopqrstuvwxyz_");
        if (length > 0)
            words = text_format("%s%s%.*s=", words, *words == '\0' ? "" : " ", (int)length, key);
        key += length;
        // What stands in brackets are a key's values.
        if (*key == ' ' && key[1] == '(')
            key += strcspn(key, ")");
        if (*key != '\0')
            key++;
    }
    return words;
}

static const char *first_word(const struct command *command)
{
    return text_slice(command->name, strcspn(command->name, " "));
}

static bool is_first_of_its_group(size_t command)
{
    for (size_t i = 0; i < command; i++)
        if (strcmp(first_word(&commands[i]), first_word(&commands[command])) == 0)
            return false;
    return true;
}

static void print_groups(void)
{
    printf("_patchbay_commands=\"");
    for (size_t i = 0; i < command_count; i++)
        if (is_first_of_its_group(i))
            printf("%s%s", i == 0 ? "" : " ", first_word(&commands[i]));
    printf("\"\n\n"
           "# Leaves in group the second words of the commands that begin with $1.\n"
           "_patchbay_group() {\n"
           "    case $1 in\n");
    for (size_t i = 0; i < command_count; i++) {
        const char *second = strchr(commands[i].name, ' ');
        if (second == NULL || !is_first_of_its_group(i))
            continue;
        printf("    %s) group=\"%s", first_word(&commands[i]), second + 1);
        for (size_t j = i + 1; j < command_count; j++)
            if (strcmp(first_word(&commands[j]), first_word(&commands[i])) == 0)
                printf("%s", strchr(commands[j].name, ' '));
        printf("\" ;;\n");
    }
    printf("    esac\n}\n\n");
}

static void print_flags(void)
{
    printf("_patchbay_globals=\"");
    for (const struct option_spec *spec = global_options; spec->name != NULL; spec++)
        printf("%s--%s", spec == global_options ? "" : " ", spec->name);
    printf("\"\n\n"
           "# Leaves in flags the options of the command $1.\n"
           "_patchbay_flags() {\n"
           "    case $1 in\n");
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].options == NULL || (i > 0 && strcmp(commands[i].name, commands[i - 1].name) == 0))
            continue;
        printf("    \"%s\") flags=\"", commands[i].name);
        const char *space = "";
        // Rows of one name stand together; an option tells them apart only once it is typed.
        for (size_t j = i; j < command_count && strcmp(commands[j].name, commands[i].name) == 0; j++)
            for (const struct option_spec *spec = commands[j].options; spec != NULL && spec->name != NULL; spec++) {
                printf("%s--%s", space, spec->name);
                space = " ";
            }
        printf("\" ;;\n");
    }
    printf("    esac\n}\n\n");
}

static void print_values(void)
{
    // An option of one name is completed alike in every command.
    const char *valued = " ", *cases = "";
    for (size_t i = 0; i <= command_count; i++) {
        const struct option_spec *spec = i < command_count ? commands[i].options : global_options;
        for (; spec != NULL && spec->name != NULL; spec++) {
            if (spec->value == NULL || spec->value[0] == '[' ||
                strstr(valued, text_format(" --%s ", spec->name)) != NULL)
                continue;
            valued = text_format("%s--%s ", valued, spec->name);
            const char *words = completer(spec->value);
            if (*words != '\0')
                cases = text_format("%s    --%s) values=\"%s\" ;;\n", cases, spec->name, words);
        }
    }
    printf("# The options that take a value.\n"
           "_patchbay_valued=\"%s\"\n\n"
           "# Leaves in values what the option $1 may have.\n"
           "_patchbay_values() {\n"
           "    case $1 in\n"
           "%s    esac\n}\n\n",
           valued, cases);
}

static void print_arguments(void)
{
    printf("# Leaves in values what argument number $2 of the command $1 may be.\n"
           "_patchbay_arguments() {\n"
           "    case $1:$2 in\n");
    for (size_t i = 0; i < command_count; i++) {
        size_t position = 0;
        for (const char *word = commands[i].arguments; *word != '\0'; position++) {
            size_t length = strcspn(word, " ");
            char *name = text_slice(word, length);
            const char *words = strncmp(name, "KEY=", 4) == 0 ? key_words(&commands[i]) : completer(name);
            if (strncmp(commands[i].arguments, "ENTITY KEY=", strlen("ENTITY KEY=")) == 0 && position == 1)
                words = "$(_patchbay_keys =)";
            const char *where = strstr(name, "...") != NULL ? "*" : text_format("%zu", position);
            if (*words != '\0')
                printf("    \"%s\":%s) values=\"%s\" ;;\n", commands[i].name, where, words);
            word += length + strspn(word + length, " ");
        }
    }
    printf("    help:0) values=$_patchbay_commands ;;\n"
           "    help:1) _patchbay_group \"${words[0]}\" && values=$group ;;\n"
           "    esac\n}\n\n");
}

void completion_print(void)
{
    printf("# SPDX-License-Identifier: BSD-3-Clause\n"
           "# Bash completion for patchbay, made by `patchbay --dump-completion`.\n\n"
           "# Asks the daemon for the names that the listing command $@ knows.\n"
           "_patchbay_names() {\n"
           "    patchbay --timeout 2 \"${where[@]}\" \"$@\" --names 2>/dev/null\n"
           "}\n\n"
           "# What conf takes: as it is typed, first the kind, then names.\n"
           "_patchbay_entities() {\n"
           "    local kind=${current%%%%:*} name\n"
           "    case $current in\n"
           "    network:* | port:* | vif:* | wire:*)\n"
           "        for name in $(_patchbay_names \"$kind\" ls); do echo \"$kind:$name\"; done ;;\n"
           "    *) echo host network: port: vif: wire: ;;\n"
           "    esac\n"
           "}\n\n"
           "# The keys that the entity has now, each with $1 behind it.\n"
           "_patchbay_keys() {\n"
           "    local key\n"
           "    for key in $(_patchbay_names conf list \"${words[0]}\"); do echo \"$key$1\"; done\n"
           "}\n\n");
    print_groups();
    print_flags();
    print_values();
    print_arguments();
    fputs(engine, stdout);
}
